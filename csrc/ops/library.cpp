// The schemas of all operators, and the module whose import registers them.
// Letters: N samples, P people, K parts, h w cells, H W pixels, S scales, C channels.
#define Py_LIMITED_API 0x030a0000
#include <Python.h>
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(cpm_repro, m) {
  // joints (N,P,K,2) float32, visible (N,P,K) int32, center (N,2) float32 -> label (N,2(K+1),h,w), center_map (N,1,H,W)
  m.def(
      "belief_maps_out(Tensor joints, Tensor visible, Tensor? center, float stride, float sigma, "
      "float center_sigma, Tensor(a!) label, Tensor(b!)? center_map) -> ()");
  // center (N,2) float32 -> center_map (N,1,H,W)
  m.def("center_map_out(Tensor center, float sigma, bool cutoff, Tensor(a!) center_map) -> ()");
  // maps: stages x (N,K+1,h,w); scale: 1/(2N) -> (stages,) float32; the gradients have the maps' shapes and type
  m.def("belief_map_loss(Tensor[] maps, Tensor joints, Tensor visible, float stride, float sigma, float scale) -> Tensor");
  m.def(
      "belief_map_loss_backward(Tensor grad_losses, Tensor[] maps, Tensor joints, Tensor visible, float stride, "
      "float sigma, float scale) -> Tensor[]");
  // image (H,W) or (H,W,C) uint8, float32 or float64 -> (height,width[,C]), same type
  m.def("imresize(Tensor image, int height, int width, float scale_y, float scale_x) -> Tensor");
  // Several people: maps (S,C,h,w) float32 each, all sizes their own; geometry: per person and scale up, left, scaled
  // height, scaled width; weights: per person and scale; out (C,H,W) float32 each
  m.def(
      "fuse_multiscale_out(Tensor[] maps, int[] geometry, float[] weights, int stride, bool background, bool opencv, "
      "Tensor(a!)[] out) -> ()");
  // images: per person H, W -> xy (C,2), score (C,), all people one after the other
  m.def(
      "fuse_multiscale_peaks(Tensor[] maps, int[] geometry, float[] weights, int[] images, int stride, bool background, "
      "bool opencv, bool row_major, bool subpixel) -> (Tensor, Tensor)");
}

// all_plain(positions, count, codes, count): True if all of so many float32 at an address are finite and all of so many
// int32 are 0, 1 or 2. A look at the values that every call takes: as an operator it would cost more than small maps.
static PyObject* all_plain(PyObject*, PyObject* const* arguments, Py_ssize_t given) {
  if (given != 4) return PyErr_Format(PyExc_TypeError, "all_plain takes 4 arguments");
  const float* positions = static_cast<const float*>(PyLong_AsVoidPtr(arguments[0]));
  const long long floats = PyLong_AsLongLong(arguments[1]);
  const int* codes = static_cast<const int*>(PyLong_AsVoidPtr(arguments[2]));
  const long long integers = PyLong_AsLongLong(arguments[3]);
  if (PyErr_Occurred() != nullptr) return nullptr;
  // Tensors without memory of their own (subclasses) have the address 0: nothing is known of them.
  bool wrong = (floats > 0 && positions == nullptr) || (integers > 0 && codes == nullptr);
  for (long long i = 0; !wrong && i < floats; ++i) wrong = positions[i] - positions[i] != 0.0f;
  for (long long i = 0; !wrong && i < integers; ++i) wrong = static_cast<unsigned>(codes[i]) > 2u;
  return PyBool_FromLong(!wrong);
}

static PyMethodDef methods[] = {
    {"all_plain", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(all_plain)), METH_FASTCALL, nullptr},
    {nullptr, nullptr, 0, nullptr}};

PyMODINIT_FUNC PyInit__C(void) {
  static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_C", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};
  return PyModule_Create(&module);
}

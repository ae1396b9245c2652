// What the operators ask of tensors before they take their addresses. The Python front has named any mistake
// already; these repeat only what keeps memory safe.
#pragma once

#include <torch/csrc/stable/tensor.h>

namespace cpm {

inline bool fits_int(int64_t value) { return value >= 0 && value <= 0x7fffffff; }

inline bool same_device(const torch::stable::Tensor& a, const torch::stable::Tensor& b) {
  return a.is_cuda() == b.is_cuda() && a.get_device_index() == b.get_device_index();
}

inline bool same_shape(const torch::stable::Tensor& a, const torch::stable::Tensor& b) {
  if (a.dim() != b.dim()) return false;
  for (int64_t i = 0; i < a.dim(); ++i) {
    if (a.size(i) != b.size(i)) return false;
  }
  return true;
}

inline bool is_plain(const torch::stable::Tensor& t, torch::headeronly::ScalarType type) {
  return t.scalar_type() == type && t.is_contiguous();
}

}  // namespace cpm

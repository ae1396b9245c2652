// The stream that torch would use now on a device. torch_stream_native_handle came with torch 2.13; this older
// function is in every CUDA build since 2.10. It is weak so that the library also loads on a CPU build of torch.
#pragma once

#include <torch/csrc/stable/tensor.h>

extern "C" __attribute__((weak)) AOTITorchError aoti_torch_get_current_cuda_stream(int32_t device_index, void** ret_stream);

namespace cpm {

inline void* current_stream(const torch::stable::Tensor& on) {
  STD_TORCH_CHECK(aoti_torch_get_current_cuda_stream != nullptr, "this build of torch has no CUDA");
  void* stream = nullptr;
  STD_TORCH_CHECK(
      aoti_torch_get_current_cuda_stream(on.get_device_index(), &stream) == 0, "torch gave no current CUDA stream");
  return stream;
}

}  // namespace cpm

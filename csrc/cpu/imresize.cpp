// One axis at a time. The weights of an output pixel serve a whole row of `inner` values.
#include "imresize.h"

#include <algorithm>

namespace cpm {
namespace {

template <typename T>
void resize_rows(const ResizeParams& p, const ResizeTable& table, long long first, long long last) {
  std::vector<double> sums(p.inner);
  const T* from = static_cast<const T*>(p.from);
  T* to = static_cast<T*>(p.to);
  for (long long row = first; row < last; ++row) {
    const T* plane = from + row / p.axis.out * p.axis.in * p.inner;
    const long long i = row % p.axis.out;
    std::fill(sums.begin(), sums.end(), 0.0);
    for (long long entry = table.start[i]; entry < table.start[i + 1]; ++entry) {
      const double weight = table.weight[entry];
      const T* source = plane + table.index[entry] * p.inner;
      for (long long j = 0; j < p.inner; ++j) sums[j] += weight * (double)source[j];
    }
    for (long long j = 0; j < p.inner; ++j) store_resized(sums[j], to + row * p.inner + j);
  }
}

}  // namespace

ResizeTable make_resize_table(const ResizeAxis& axis) {
  const int taps = resize_taps(axis);
  ResizeTable table;
  table.start.assign(1, 0);
  std::vector<double> weights(taps);
  for (int i = 0; i < axis.out; ++i) {
    const double start = resize_first(axis, i);
    double total = 0.0;
    for (int t = 0; t < taps; ++t) total += weights[t] = resize_weight(axis, i, start + t);
    for (int t = 0; t < taps; ++t) {
      if (weights[t] == 0.0) continue;
      table.index.push_back(mirror_index(start + t, axis.in));
      table.weight.push_back(weights[t] / total);
    }
    table.start.push_back((long long)table.index.size());
  }
  return table;
}

void resize_axis_cpu(const ResizeParams& p, const ResizeTable& table, long long first, long long last) {
  if (p.type == kResizeByte) {
    resize_rows<unsigned char>(p, table, first, last);
  } else if (p.type == kResizeFloat) {
    resize_rows<float>(p, table, first, last);
  } else {
    resize_rows<double>(p, table, first, last);
  }
}

}  // namespace cpm

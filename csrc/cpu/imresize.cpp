// One axis at a time, every output value a sum over its taps in one order. Long rows of neighbouring values are summed
// row by row; short ones (the pixels of a line) for several lines at once, which lie side by side in a turned copy.
#include "imresize.h"

#include <algorithm>

#include "clones.h"

namespace cpm {
namespace {

constexpr long long kLong = 48;  // values in a row from which it is summed as a row
constexpr int kLines = 8;

typedef double Lanes __attribute__((vector_size(8 * kLines), aligned(8), may_alias));

template <typename T>
CPM_ALWAYS_INLINE void add_row(double weight, const T* from, long long count, double* sums) {
  for (long long j = 0; j < count; ++j) sums[j] += weight * (double)from[j];
}

CPM_CLONES void add_row_of(double weight, const unsigned char* from, long long count, double* sums) { add_row(weight, from, count, sums); }
CPM_CLONES void add_row_of(double weight, const float* from, long long count, double* sums) { add_row(weight, from, count, sums); }
CPM_CLONES void add_row_of(double weight, const double* from, long long count, double* sums) { add_row(weight, from, count, sums); }

template <typename T>
CPM_ALWAYS_INLINE void store_row(const double* sums, long long count, T* to) {
  for (long long j = 0; j < count; ++j) store_resized(sums[j], to + j);
}

CPM_CLONES void store_row_of(const double* sums, long long count, unsigned char* to) { store_row(sums, count, to); }
CPM_CLONES void store_row_of(const double* sums, long long count, float* to) { store_row(sums, count, to); }
CPM_CLONES void store_row_of(const double* sums, long long count, double* to) { store_row(sums, count, to); }

template <typename T>
void resize_rows(const ResizeParams& p, const ResizeTable& table, long long first, long long last) {
  std::vector<double> sums(p.inner);
  for (long long row = first; row < last; ++row) {
    const T* plane = static_cast<const T*>(p.from) + row / p.axis.out * p.axis.in * p.inner;
    const long long i = row % p.axis.out;
    std::fill(sums.begin(), sums.end(), 0.0);
    for (long long entry = table.start[i]; entry < table.start[i + 1]; ++entry) {
      add_row_of(table.weight[entry], plane + table.index[entry] * p.inner, p.inner, sums.data());
    }
    store_row_of(sums.data(), p.inner, static_cast<T*>(p.to) + row * p.inner);
  }
}

// Values of kLines lines, turned: (out, inner, kLines) from (in, inner, kLines).
CPM_CLONES void resample_lines(const ResizeTable& table, long long out, long long inner, const double* from, double* to) {
  for (long long i = 0; i < out; ++i) {
    for (long long j = 0; j < inner; ++j) {
      Lanes sum = {};
      for (long long entry = table.start[i]; entry < table.start[i + 1]; ++entry) {
        sum += table.weight[entry] * *reinterpret_cast<const Lanes*>(from + (table.index[entry] * inner + j) * kLines);
      }
      *reinterpret_cast<Lanes*>(to + (i * inner + j) * kLines) = sum;
    }
  }
}

template <typename T>
void resize_lines(const ResizeParams& p, const ResizeTable& table, long long first, long long last) {
  const long long in = p.axis.in * p.inner, out = p.axis.out * p.inner;
  std::vector<double> from(in * kLines), to(out * kLines), line(out);
  for (long long task = first; task < last; ++task) {
    const long long lines = std::min<long long>(kLines, p.outer - task * kLines);
    for (long long k = 0; k < lines; ++k) {
      const T* source = static_cast<const T*>(p.from) + (task * kLines + k) * in;
      for (long long j = 0; j < in; ++j) from[j * kLines + k] = (double)source[j];
    }
    resample_lines(table, p.axis.out, p.inner, from.data(), to.data());
    for (long long k = 0; k < lines; ++k) {
      for (long long j = 0; j < out; ++j) line[j] = to[j * kLines + k];
      store_row_of(line.data(), out, static_cast<T*>(p.to) + (task * kLines + k) * out);
    }
  }
}

template <typename T>
void resize(const ResizeParams& p, const ResizeTable& table, long long first, long long last) {
  p.inner >= kLong ? resize_rows<T>(p, table, first, last) : resize_lines<T>(p, table, first, last);
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

long long resize_tasks(const ResizeParams& p) { return p.inner >= kLong ? p.outer * p.axis.out : (p.outer + kLines - 1) / kLines; }

void resize_axis_cpu(const ResizeParams& p, const ResizeTable& table, long long first, long long last) {
  if (p.type == kResizeByte) {
    resize<unsigned char>(p, table, first, last);
  } else if (p.type == kResizeFloat) {
    resize<float>(p, table, first, last);
  } else {
    resize<double>(p, table, first, last);
  }
}

}  // namespace cpm

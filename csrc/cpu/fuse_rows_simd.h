// Included once per instruction set, inside a namespace that has CPM_TARGET, kLanes, kRows, kWide, Vector, Mask and the
// functions on them. Several image rows are made at once, since most of them depend on the same cell rows: each is
// loaded once for all. Fused multiply-adds: twice as fast, other last bits (the tolerance of this operator allows it).

template <int kVectors>
CPM_TARGET inline void load_all(const float* from, Mask, Vector* to) {
  CPM_UNROLL
  for (int v = 0; v < kVectors; ++v) to[v] = load(from + v * kLanes);
}

// Less than a vector.
template <>
CPM_TARGET inline void load_all<0>(const float* from, Mask mask, Vector* to) { to[0] = load_some(from, mask); }

// kHeight image rows from y, kVectors vectors of pixels from x; 0: those of the mask.
template <int kHeight, int kVectors>
CPM_TARGET inline void block(const std::vector<Strip>& strips, int y, int x, Mask mask, float* out, long long pitch) {
  constexpr int kCount = kVectors > 0 ? kVectors : 1;
  Vector sum[kHeight][kCount], term[kCount];
  CPM_UNROLL
  for (int r = 0; r < kHeight; ++r) {
    CPM_UNROLL
    for (int v = 0; v < kCount; ++v) sum[r][v] = zero();
  }
  for (const Strip& s : strips) {
    const int taps = s.taps;
    const float* weights = s.weights + (size_t)y * taps;
    bool same = true;
    CPM_UNROLL
    for (int r = 1; r < kHeight; ++r) same = same && s.first[y + r] == s.first[y];
    if (same) {
      const float* row = s.row_of(y) + x;
      for (int t = 0; t < taps; ++t, row += s.pitch) {
        load_all<kVectors>(row, mask, term);
        CPM_UNROLL
        for (int r = 0; r < kHeight; ++r) {
          const Vector factor = spread(weights[r * taps + t]);
          CPM_UNROLL
          for (int v = 0; v < kCount; ++v) sum[r][v] = fused(factor, term[v], sum[r][v]);
        }
      }
      continue;
    }
    CPM_UNROLL
    for (int r = 0; r < kHeight; ++r) {
      const float* row = s.row_of(y + r) + x;
      for (int t = 0; t < taps; ++t, row += s.pitch) {
        load_all<kVectors>(row, mask, term);
        const Vector factor = spread(weights[r * taps + t]);
        CPM_UNROLL
        for (int v = 0; v < kCount; ++v) sum[r][v] = fused(factor, term[v], sum[r][v]);
      }
    }
  }
  CPM_UNROLL
  for (int r = 0; r < kHeight; ++r) {
    CPM_UNROLL
    for (int v = 0; v < kCount; ++v) {
      float* to = out + r * pitch + x + v * kLanes;
      if (kVectors > 0) {
        store(to, sum[r][v]);
      } else {
        store_some(to, mask, sum[r][v]);
      }
    }
  }
}

template <int kHeight>
CPM_TARGET inline void line(const std::vector<Strip>& strips, int y, int width, float* out, long long pitch) {
  int x = 0;
  for (; x + kWide * kLanes <= width; x += kWide * kLanes) block<kHeight, kWide>(strips, y, x, Mask(), out, pitch);
  for (; x + kLanes <= width; x += kLanes) block<kHeight, 1>(strips, y, x, Mask(), out, pitch);
  if (x < width) block<kHeight, 0>(strips, y, x, first_lanes(width - x), out, pitch);
}

CPM_TARGET void rows(const std::vector<Strip>& strips, int y0, int y1, int width, float* out, long long pitch) {
  int y = y0;
  for (; y + kRows <= y1; y += kRows, out += kRows * pitch) line<kRows>(strips, y, width, out, pitch);
  for (; y < y1; ++y, out += pitch) line<1>(strips, y, width, out, pitch);
}

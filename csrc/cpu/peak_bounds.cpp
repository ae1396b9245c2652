#include "peak_bounds.h"

#include <algorithm>

namespace cpm {
namespace {

constexpr int kTile = 32;             // pixels, about
constexpr double kStepsPerCell = 4.3;  // measured: finer costs more coarse pixels, coarser more that survive them
constexpr int kMostStep = 16;

// The smallest cell of all scales and axes, in image pixels.
double smallest_cell(const FuseParams& p) {
  double smallest = 1e9;
  for (int s = 0; s < p.scales; ++s) {
    smallest = std::min({smallest, (double)p.stride * p.image_h / p.scaled_h[s], (double)p.stride * p.image_w / p.scaled_w[s]});
  }
  return smallest;
}

int coarse_pixels(int length, int step) { return (length - 1 + step - 1) / step + 1; }

int coarse_pixel(int k, int step, int length) { return std::min(k * step, length - 1); }

// Adds `factor` times row i of the band to `line`, which starts at cell `start`.
void add_row(const BandTable& table, int i, double factor, int start, std::vector<double>& line) {
  for (int t = 0; t < table.taps; ++t) line[table.first[i] + t - start] += factor * (double)table.weights[(size_t)i * table.taps + t];
}

// How far the rows a+1..b-1 are from the straight line between rows a and b.
void measure_step(const BandTable& table, int a, int b, std::vector<double>& line, AxisBounds& bounds) {
  const CellRange cells = cells_under(table, a, b + 1);
  double bend = 0.0, drift = 0.0, cover_drift = 0.0;
  for (int i = a + 1; i < b; ++i) {
    const double t = (double)(i - a) / (b - a);
    line.assign(cells.last - cells.first, 0.0);
    add_row(table, i, 1.0, cells.first, line);
    add_row(table, a, t - 1.0, cells.first, line);
    add_row(table, b, -t, cells.first, line);
    double size = 0.0, sum = 0.0;
    for (double weight : line) {
      size += fabs(weight);
      sum += weight;
    }
    bend = std::max(bend, size);
    drift = std::max(drift, fabs(sum));
    cover_drift = std::max(cover_drift, fabs(table.cover[i] - (1.0 - t) * table.cover[a] - t * table.cover[b]));
  }
  bounds.bend.push_back((float)(bend * (1.0 + 1e-6)));
  bounds.drift.push_back((float)(drift + 1e-7));
  bounds.cover_drift.push_back((float)(cover_drift + 1e-7));
}

void copy_coarse(const BandTable& table, int step, BandTable& coarse) {
  const int length = (int)table.first.size(), count = coarse_pixels(length, step);
  coarse.taps = table.taps;
  for (int k = 0; k < count; ++k) {
    const int i = coarse_pixel(k, step, length);
    coarse.first.push_back(table.first[i]);
    coarse.cover.push_back(table.cover[i]);
    coarse.weights.insert(coarse.weights.end(), table.weights.begin() + (size_t)i * table.taps, table.weights.begin() + (size_t)(i + 1) * table.taps);
  }
}

}  // namespace

PeakTables make_peak_tables(const FuseParams& p) {
  PeakTables peaks;
  const int wanted = (int)(smallest_cell(p) / kStepsPerCell + 0.5);
  const bool large = std::min(p.image_h, p.image_w) > 2 * kTile;
  peaks.step = large ? std::min(std::max(wanted, 1), kMostStep) : 1;
  peaks.tile = peaks.step * ((kTile + peaks.step / 2) / peaks.step);
  peaks.params = p;
  peaks.params.image_h = coarse_pixels(p.image_h, peaks.step);
  peaks.params.image_w = coarse_pixels(p.image_w, peaks.step);
  peaks.coarse.y.resize(p.scales);
  peaks.coarse.x.resize(p.scales);
  peaks.y.resize(p.scales);
  peaks.x.resize(p.scales);
  return peaks;
}

void fill_peak_table(const FuseParams& p, const FuseTables& tables, PeakTables& peaks, int number) {
  const int scale = number / 2, axis = number % 2, length = axis == 0 ? p.image_h : p.image_w;
  const BandTable& table = axis == 0 ? tables.y[scale] : tables.x[scale];
  AxisBounds& bounds = axis == 0 ? peaks.y[scale] : peaks.x[scale];
  for (int a = 0; a < length; a += peaks.tile) {
    const int b = std::min(a + peaks.tile + 1, length);
    bounds.cells.push_back(cells_under(table, a, b));
    bounds.positive.push_back(*std::max_element(table.positive.begin() + a, table.positive.begin() + b));
    bounds.negative.push_back(*std::max_element(table.negative.begin() + a, table.negative.begin() + b));
  }
  if (peaks.step == 1) return;
  for (int i = 0; i < length; ++i) {
    bounds.norm = std::max(bounds.norm, table.positive[i] + table.negative[i]);
    bounds.sum = std::max(bounds.sum, fabsf(table.positive[i] - table.negative[i]));
    bounds.cover = std::max(bounds.cover, fabsf(table.cover[i]));
  }
  std::vector<double> line;
  for (int k = 0; k + 1 < coarse_pixels(length, peaks.step); ++k) {
    measure_step(table, k * peaks.step, coarse_pixel(k + 1, peaks.step, length), line, bounds);
  }
  copy_coarse(table, peaks.step, axis == 0 ? peaks.coarse.y[scale] : peaks.coarse.x[scale]);
}

}  // namespace cpm

#include "fuse_tables.h"

namespace cpm {

FuseTables make_fuse_tables(const FuseParams& p) {
  FuseTables tables;
  tables.y.resize(p.scales);
  tables.x.resize(p.scales);
  return tables;
}

void fill_fuse_table(const FuseParams& p, FuseTables& tables, int number) {
  const int scale = number / 2, axis = number % 2;
  const ChainAxis chain = chain_axis(p, scale, axis);
  BandTable& table = axis == 0 ? tables.y[scale] : tables.x[scale];
  table.taps = chain_taps(chain);
  table.weights.resize((size_t)chain.image * table.taps);
  table.first.resize(chain.image);
  table.cover.resize(chain.image);
  Phases phases;
  for (int phase = 0; phase < chain.stride; ++phase) fill_phase(chain, phase, &phases);
  const float factor = axis == 0 ? p.weight[scale] : 1.0f;
  for (int i = 0; i < chain.image; ++i) {
    float* row = table.weights.data() + (size_t)i * table.taps;
    table.cover[i] = chain_row(chain, phases, i, table.taps, row, &table.first[i]);
    for (int t = 0; t < table.taps; ++t) row[t] *= factor;
  }
}

}  // namespace cpm

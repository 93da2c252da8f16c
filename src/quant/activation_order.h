// Activation-ordered int4 (compressed-tensors' actorder "group", GPTQ's desc_act): the columns of a
// group are anywhere in the matrix, X.g_idx says where. Columns are put in order of their groups
// while loading, so that the matrix runs as int4 in groups; its input follows
// (PackedMatrix::k_order). Pure functions, called by the readers and quant/load.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "quant/dequantise.h"
#include "quant/quant_method.h"

namespace moestro::quant {

// Columns in order of their groups, a group's in the order they lie in; empty: they lie so already,
// or the index holds a -1, by which compressed-tensors marks one that was never set. kDataLoss: a
// group that does not exist, or of other than group_k columns.
Result<std::vector<int32_t>> column_order(const std::string& tensor, std::span<const int32_t> index,
                                          int32_t group_k);
// The same of tensor I32 [k], which joins m.tensors.
Result<std::vector<int32_t>> read_column_order(const checkpoint::WeightSource& source,
                                               const std::string& tensor, int32_t k,
                                               int32_t group_k, LoadedMatrix& m);

// The group of each of k columns in that order.
std::vector<int32_t> groups_of_columns(std::span<const int32_t> order, int32_t k, int32_t group_k);

// m as floats, (code - zero) * scale of each value; Stored has code_at(c, i), zero_at(c, group) and
// scale_at(c, group), and is kept with the matrix.
template <class Stored>
void set_values_in_order(LoadedMatrix& m, int32_t n, int32_t k, std::shared_ptr<const Stored> s,
                         std::span<const int32_t> order, int32_t group_k) {
  set_values(
      m, n, k, [s](int32_t c, int32_t i) { return s->code_at(c, i); },
      [s](int32_t c, int32_t g) { return s->zero_at(c, g); },
      [s](int32_t c, int32_t g) { return s->scale_at(c, g); },
      [group_of = groups_of_columns(order, k, group_k)](int32_t i) {
        return group_of[static_cast<size_t>(i)];
      });
}

// int4 codes as m.source has them: column i becomes what order[i] was, and m.k_order says so.
void reorder_columns(LoadedMatrix& m, std::vector<int32_t> order);
// Row (output channel) c becomes what order[c] was, with its scales and zero points.
void reorder_rows(LoadedMatrix& m, std::span<const int32_t> order);

}  // namespace moestro::quant

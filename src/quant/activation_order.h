// Activation-ordered int4 (compressed-tensors' actorder "group", GPTQ's desc_act): the columns of a
// group are anywhere in the matrix, X.g_idx says where. Columns are put in order of their groups
// while loading, so that the matrix runs as int4 in groups; its input follows
// (PackedMatrix::k_order). Pure functions, called by the readers and quant/load.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "quant/quant_method.h"

namespace moestro::quant {

// Columns in order of their groups, a group's in the order they lie in; empty: they lie so already,
// or the index holds a -1, by which compressed-tensors marks one that was never set. kDataLoss: a
// group that does not exist, or of other than group_k columns.
Result<std::vector<int32_t>> column_order(const std::string& tensor, std::span<const int32_t> index,
                                          int32_t group_k);

// The group of each of k columns in that order.
std::vector<int32_t> groups_of_columns(std::span<const int32_t> order, int32_t k, int32_t group_k);

// int4 codes as m.source has them: column i becomes what order[i] was, and m.k_order says so.
void reorder_columns(LoadedMatrix& m, std::vector<int32_t> order);
// Row (output channel) c becomes what order[c] was, with its scales and zero points.
void reorder_rows(LoadedMatrix& m, std::span<const int32_t> order);

}  // namespace moestro::quant

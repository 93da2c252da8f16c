#include "quant/activation_order.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <numeric>

#include "base/format.h"

namespace moestro::quant {
namespace {

// rows [n, row_bytes] in the order, in memory of their own.
template <class T>
std::vector<T> rows_in_order(const T* rows, int64_t row_size, std::span<const int32_t> order) {
  std::vector<T> out(order.size() * static_cast<size_t>(row_size));
  T* to = out.data();
  for (const int32_t c : order) to = std::copy_n(rows + c * row_size, row_size, to);
  return out;
}

}  // namespace

Result<std::vector<int32_t>> column_order(const std::string& tensor, std::span<const int32_t> index,
                                          int32_t group_k) {
  std::vector<int32_t> order;
  if (std::find(index.begin(), index.end(), -1) != index.end()) return order;
  const auto k = static_cast<int32_t>(index.size()), groups = (k + group_k - 1) / group_k;
  std::vector<int32_t> sizes(static_cast<size_t>(groups));
  for (int32_t i = 0; i < k; ++i) {
    const int32_t g = index[static_cast<size_t>(i)];
    if (g < 0 || g >= groups)
      return data_loss(format("tensor {}: group {} of column {} is not among the {} groups", tensor,
                              g, i, groups));
    ++sizes[static_cast<size_t>(g)];
  }
  for (int32_t g = 0; g < groups; ++g)
    if (sizes[static_cast<size_t>(g)] != std::min(group_k, k - g * group_k))
      return data_loss(format("tensor {}: group {} has {} columns, wanted {}", tensor, g,
                              sizes[static_cast<size_t>(g)], std::min(group_k, k - g * group_k)));
  if (std::is_sorted(index.begin(), index.end())) return order;
  order.resize(index.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return index[static_cast<size_t>(a)] < index[static_cast<size_t>(b)];
  });
  return order;
}

Result<std::vector<int32_t>> read_column_order(const checkpoint::WeightSource& source,
                                               const std::string& tensor, int32_t k,
                                               int32_t group_k, LoadedMatrix& m) {
  MOESTRO_ASSIGN(const checkpoint::TensorView t, source.get(tensor, {k}, {DType::kI32}));
  m.tensors.push_back(t);
  std::vector<int32_t> index(static_cast<size_t>(k));
  std::memcpy(index.data(), t.bytes.data(), t.bytes.size());
  return column_order(tensor, index, group_k);
}

std::vector<int32_t> groups_of_columns(std::span<const int32_t> order, int32_t k, int32_t group_k) {
  std::vector<int32_t> groups(static_cast<size_t>(k));
  for (int32_t i = 0; i < k; ++i)
    groups[static_cast<size_t>(order.empty() ? i : order[static_cast<size_t>(i)])] = i / group_k;
  return groups;
}

void reorder_columns(LoadedMatrix& m, std::vector<int32_t> order) {
  // The rows as they lie, whose owners stay in m.
  const auto lying = std::make_shared<LoadedMatrix>();
  lying->source = m.source;
  lying->make_rows = std::move(m.make_rows);
  m.source.data = nullptr;
  m.k_order = std::move(order);
  m.make_rows = [lying, order = m.k_order](int32_t begin, int32_t end, std::byte* out) {
    std::vector<std::byte> made;
    const kernels::SourceMatrix rows = lying->rows(begin, end, made);
    const std::byte* from = rows.data;
    const auto code = [&](size_t i) {
      const int32_t column = order[i];
      const auto byte = std::to_integer<uint32_t>(from[column / 2]);
      return column % 2 ? byte >> 4 : byte & 15;
    };
    for (int32_t c = begin; c < end; ++c, from += rows.row_bytes, out += rows.row_bytes) {
      size_t i = 0;
      for (; i + 1 < order.size(); i += 2)
        out[i / 2] = static_cast<std::byte>(code(i) | code(i + 1) << 4);
      if (i < order.size()) out[i / 2] = static_cast<std::byte>(code(i));
    }
  };
}

void reorder_rows(LoadedMatrix& m, std::span<const int32_t> order) {
  kernels::SourceMatrix& s = m.source;
  if (s.scales) {
    m.scales = rows_in_order(s.scales, 1, order);
    s.scales = m.scales.data();
  }
  const int64_t groups = tensor::groups_of(m.stored, s.k);
  if (s.group_scales) {
    m.group_scales =
        rows_in_order(s.group_scales, groups * tensor::group_scale_bytes(m.stored), order);
    s.group_scales = m.group_scales.data();
  }
  if (s.zero_points) {
    m.zero_points = rows_in_order(s.zero_points, groups, order);
    s.zero_points = m.zero_points.data();
  }
  const auto lying = std::make_shared<LoadedMatrix>();
  lying->source = s;
  lying->source.scales = nullptr;
  lying->source.group_scales = nullptr;
  lying->source.zero_points = nullptr;
  lying->make_rows = std::move(m.make_rows);
  s.data = nullptr;
  m.make_rows = [lying, order = std::vector<int32_t>(order.begin(), order.end())](
                    int32_t begin, int32_t end, std::byte* out) {
    std::vector<std::byte> made;
    for (int32_t c = begin; c < end; ++c, out += lying->source.row_bytes) {
      const int32_t row = order[static_cast<size_t>(c)];
      const kernels::SourceMatrix one = lying->rows(row, row + 1, made);
      std::memcpy(out, one.data, static_cast<size_t>(one.row_bytes));
    }
  };
}

}  // namespace moestro::quant

// Sparse index selection: the reference against the formula, every kernel against the reference,
// ties, NaN, invariance.
#include <gtest/gtest.h>

#include "kernels/paged_batch_fixture.h"
#include "kernels/sparse_index.h"

namespace moestro::kernels {
namespace {

using testing::PagedBatch;
using testing::SequenceSpec;

constexpr uint64_t kQ = 11, kKeys = 12, kWeights = 13;

struct IndexCase {
  int32_t heads, dim, topk;
  DType dtype = DType::kF32;
};

// Per token the selected positions, or {-1} for "all".
using Selection = std::vector<std::vector<int32_t>>;

Selection run_index(const SparseIndexKernel& kernel, const IndexCase& c,
                    const std::vector<SequenceSpec>& specs, int32_t page_size, int workers,
                    void (*edit)(std::vector<float>& q, std::vector<float>& weights) = nullptr) {
  PagedBatch batch(specs, page_size);
  std::vector<float> q = batch.rows(kQ, c.heads * c.dim), weights = batch.rows(kWeights, c.heads);
  if (edit) edit(q, weights);
  std::vector<int32_t> selected(static_cast<size_t>(batch.tokens()) * static_cast<size_t>(c.topk),
                                -9),
      num(static_cast<size_t>(batch.tokens()), -9);
  SparseIndexArgs args{};
  args.step = &batch.step();
  args.q = q.data();
  args.weights = weights.data();
  args.keys = batch.cache(kKeys, c.dim, c.dtype, page_size == 16 ? 64 : 0);
  args.heads = c.heads, args.dim = c.dim, args.topk = c.topk;
  args.selected = selected.data();
  args.num_selected = num.data();
  const SparseIndexShape shape{c.dtype, batch.tokens(), c.heads, c.dim, c.topk, batch.longest()};
  EXPECT_TRUE(kernel.why_not(shape).empty()) << kernel.name;
  testing::run_kernel(kernel, shape, args, workers);
  Selection out;
  for (int32_t t = 0; t < batch.tokens(); ++t) {
    const int32_t n = num[static_cast<size_t>(t)];
    const auto begin = selected.begin() + static_cast<int64_t>(t) * c.topk;
    out.push_back(n < 0 ? std::vector<int32_t>{n} : std::vector<int32_t>(begin, begin + n));
  }
  return out;
}

double formula(const IndexCase& c, uint64_t id, int32_t token_position, int32_t position) {
  double sum = 0;
  for (int32_t h = 0; h < c.heads; ++h) {
    double dot = 0;
    for (int32_t d = 0; d < c.dim; ++d) {
      const float key = testing::content(kKeys, id, position, d);
      dot += static_cast<double>(testing::content(kQ, id, token_position, h * c.dim + d)) *
             static_cast<double>(c.dtype == DType::kF32 ? key : to_float(to_bf16(key)));
    }
    sum +=
        static_cast<double>(testing::content(kWeights, id, token_position, h)) * std::max(0.0, dot);
  }
  return sum;
}

class SparseIndex : public ::testing::TestWithParam<size_t> {
 protected:
  void SetUp() override { MOESTRO_SKIP_UNLESS_ISA(kernel()); }
  const SparseIndexKernel& kernel() const { return sparse_index_kernels()[GetParam()]; }
  bool runs(DType dtype) const {
    return kernel().why_not({dtype, 64, 32, 128, 2048, 4096}).empty();
  }
  bool rounds_queries() const { return kernel().name.find("amx") != std::string_view::npos; }
};

// A selection is right up to rounding: ascending, of the right size, and no left-out score beats a
// chosen one by more than `slack`.
void expect_valid(const std::vector<int32_t>& chosen, const IndexCase& c, uint64_t id,
                  int32_t position, double slack) {
  if (position + 1 <= c.topk) {
    EXPECT_EQ(chosen, std::vector<int32_t>{-1});
    return;
  }
  ASSERT_EQ(chosen.size(), static_cast<size_t>(c.topk));
  std::vector<bool> in(static_cast<size_t>(position + 1));
  double lowest_in = INFINITY, highest_out = -INFINITY;
  for (size_t i = 0; i < chosen.size(); ++i) {
    ASSERT_TRUE(chosen[i] >= 0 && chosen[i] <= position && (i == 0 || chosen[i] > chosen[i - 1]));
    in[static_cast<size_t>(chosen[i])] = true;
  }
  for (int32_t p = 0; p <= position; ++p) {
    const double score = formula(c, id, position, p);
    if (in[static_cast<size_t>(p)])
      lowest_in = std::min(lowest_in, score);
    else
      highest_out = std::max(highest_out, score);
  }
  EXPECT_LE(highest_out, lowest_in + slack) << "position " << position;
}

TEST_P(SparseIndex, ChoosesTheLargestScores) {
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    if (!runs(dtype)) continue;
    for (const IndexCase& shape : {IndexCase{4, 16, 8}, IndexCase{1, 8, 1}, IndexCase{3, 20, 5},
                                   IndexCase{32, 128, 64}, IndexCase{24, 32, 100}}) {
      IndexCase c = shape;
      c.dtype = dtype;
      const std::vector<SequenceSpec> specs{{1, 0, 12}, {2, 300, 1}, {3, 95, 7}, {4, 1300, 1}};
      const double slack = dtype == DType::kBF16 && rounds_queries()
                               ? 0.02 * std::sqrt(c.dim * c.heads)
                               : 1e-5 * std::sqrt(c.dim * c.heads);
      for (int32_t page_size : {1, 16, 64}) {
        const Selection got = run_index(kernel(), c, specs, page_size, 1 + page_size % 3);
        size_t at = 0;
        for (const SequenceSpec& s : specs) {
          for (int32_t p = s.past; p < s.past + s.tokens; ++p)
            expect_valid(got[at++], c, s.id, p, slack);
        }
      }
    }
  }
}

TEST_P(SparseIndex, TiesGoToTheLowerPosition) {
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    if (!runs(dtype)) continue;
    // All weights zero: all scores equal.
    const Selection flat = run_index(
        kernel(), {4, 16, 5, dtype}, {{1, 40, 2}}, 16, 2,
        [](std::vector<float>&, std::vector<float>& w) { std::fill(w.begin(), w.end(), 0.0f); });
    for (const auto& chosen : flat) EXPECT_EQ(chosen, (std::vector<int32_t>{0, 1, 2, 3, 4}));
    // One head, half of the dots negative: with weight 1 the zeros tie at the bottom, with -1 at
    // the top.
    const IndexCase c{1, 16, 30, dtype};
    for (float sign : {1.0f, -1.0f}) {
      const auto edit = sign > 0
                            ? +[](std::vector<float>&,
                                  std::vector<float>& w) { std::fill(w.begin(), w.end(), 1.0f); }
                            : +[](std::vector<float>&, std::vector<float>& w) {
                                std::fill(w.begin(), w.end(), -1.0f);
                              };
      const auto chosen = run_index(kernel(), c, {{1, 40, 1}}, 16, 1, edit)[0];
      std::vector<std::pair<double, int32_t>> order;
      for (int32_t p = 0; p <= 40; ++p) {
        double dot = 0;
        for (int32_t d = 0; d < 16; ++d) {
          const float key = testing::content(kKeys, 1, p, d);
          dot += static_cast<double>(testing::content(kQ, 1, 40, d)) *
                 static_cast<double>(dtype == DType::kF32 ? key : to_float(to_bf16(key)));
        }
        order.emplace_back(-static_cast<double>(sign) * std::max(0.0, dot), p);
      }
      std::sort(order.begin(), order.end());
      std::vector<int32_t> want;
      for (size_t i = 0; i < 30; ++i) want.push_back(order[i].second);
      std::sort(want.begin(), want.end());
      EXPECT_EQ(chosen, want) << sign;
    }
  }
}

TEST_P(SparseIndex, NanRanksLowest) {
  // A NaN query makes every score of its token NaN: all tie at the bottom, the lowest positions
  // win.
  const Selection got =
      run_index(kernel(), {2, 16, 4, runs(DType::kF32) ? DType::kF32 : DType::kBF16}, {{1, 20, 2}},
                16, 2, [](std::vector<float>& q, std::vector<float>&) { q[3] = NAN; });
  EXPECT_EQ(got[0], (std::vector<int32_t>{0, 1, 2, 3}));
  EXPECT_EQ(got[1].size(), 4u);
}

TEST_P(SparseIndex, DoesNotDependOnPagesChunksCompanyOrWorkers) {
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    if (!runs(dtype)) continue;
    const IndexCase c{8, 32, 24, dtype};
    const Selection whole = run_index(kernel(), c, {{7, 0, 400}}, 16, 1);
    EXPECT_EQ(whole, run_index(kernel(), c, {{7, 0, 400}}, 1, 3));
    for (const SequenceSpec& part :
         {SequenceSpec{7, 0, 37}, {7, 37, 100}, {7, 399, 1}, {7, 255, 2}}) {
      const Selection got =
          run_index(kernel(), c, {{1, 90, 1}, part, {2, 0, 21}, {3, 2500, 1}}, 64, 3);
      for (int32_t t = 0; t < part.tokens; ++t)
        EXPECT_EQ(got[static_cast<size_t>(1 + t)], whole[static_cast<size_t>(part.past + t)])
            << part.past + t;
    }
  }
}

std::string kernel_name(const ::testing::TestParamInfo<size_t>& info) {
  return std::string(sparse_index_kernels()[info.param].name);
}
INSTANTIATE_TEST_SUITE_P(Kernels, SparseIndex,
                         ::testing::Range(size_t{0}, sparse_index_kernels().size()), kernel_name);

}  // namespace
}  // namespace moestro::kernels

// MLA and grouped-query attention: the reference against a naive oracle, every kernel against the
// reference, and the promises of bit-identity (page size, chunking, company, workers, all positions
// selected).
#include <gtest/gtest.h>

#include "kernels/gqa_attention.h"
#include "kernels/mla_attention.h"
#include "kernels/paged_batch_fixture.h"

namespace moestro::kernels {
namespace {

using testing::PagedBatch;
using testing::SequenceSpec;

constexpr uint64_t kQ = 1, kKey = 2, kValue = 3;

struct MlaCase {
  int32_t heads, latent, rope;
  DType dtype = DType::kF32;
  float amplitude = 1;  // of the queries: large ones make the softmax sharp
};

std::vector<float> run_mla(const MlaKernel& kernel, const MlaCase& c,
                           const std::vector<SequenceSpec>& specs, int32_t page_size, int workers,
                           int32_t keep_every = 0, std::vector<int32_t> num_selected = {}) {
  PagedBatch batch(specs, page_size);
  const std::vector<float> q = batch.rows(kQ, c.heads * (c.latent + c.rope), c.amplitude);
  std::vector<float> out(
      static_cast<size_t>(batch.tokens()) * static_cast<size_t>(c.heads * c.latent), -77.0f);
  MlaArgs args{};
  args.step = &batch.step();
  args.q = q.data();
  args.kv = batch.cache(kKey, c.latent + c.rope, c.dtype, page_size == 16 ? 64 : 0);
  args.heads = c.heads, args.latent = c.latent, args.rope = c.rope;
  args.scale = 1.0f / std::sqrt(static_cast<float>(c.latent + c.rope) / 3);
  args.out = out.data();
  std::vector<int32_t> selected;
  if (keep_every > 0) {  // token t keeps its own position and every keep_every-th before it; tokens
                         // with t % 5 == 4 are dense
    args.max_selected = batch.longest();
    selected.assign(static_cast<size_t>(batch.tokens()) * static_cast<size_t>(args.max_selected),
                    1 << 30);
    for (int32_t t = 0; t < batch.tokens(); ++t) {
      const int32_t position = batch.step().positions[t];
      int32_t n = 0;
      for (int32_t p = position % keep_every; p <= position; p += keep_every)
        selected[static_cast<size_t>(t) * static_cast<size_t>(args.max_selected) +
                 static_cast<size_t>(n++)] = p;
      num_selected.push_back(keep_every > 1 && position % 5 == 4 ? -1 : n);
    }
    args.selected = selected.data();
    args.num_selected = num_selected.data();
  }
  const MlaShape shape{c.dtype, batch.tokens(), c.heads, c.latent, c.rope, batch.longest()};
  EXPECT_TRUE(kernel.why_not(shape).empty()) << kernel.name;
  testing::run_kernel(kernel, shape, args, workers);
  return out;
}

const MlaKernel& mla_reference() { return mla_kernels().back(); }

TEST(MlaReference, AgreesWithTheFormula) {
  const MlaCase c{3, 7, 4};
  const std::vector<SequenceSpec> specs{{5, 4, 3}, {9, 0, 2}};
  const std::vector<float> got = run_mla(mla_reference(), c, specs, 4, 2, 2);
  size_t at = 0;
  for (const SequenceSpec& s : specs) {
    for (int32_t p = s.past; p < s.past + s.tokens; ++p) {
      for (int32_t h = 0; h < c.heads; ++h) {
        std::vector<double> weights, sums(7);
        std::vector<int32_t> seen;
        double total = 0;
        for (int32_t k = 0; k <= p; ++k) {
          if (p % 5 != 4 && (p - k) % 2 != 0) continue;
          double dot = 0;
          for (int32_t d = 0; d < 11; ++d)
            dot += static_cast<double>(testing::content(kQ, s.id, p, h * 11 + d)) *
                   static_cast<double>(testing::content(kKey, s.id, k, d));
          seen.push_back(k);
          weights.push_back(std::exp(dot / std::sqrt(11.0 / 3)));
          total += weights.back();
        }
        for (size_t i = 0; i < seen.size(); ++i) {
          for (int32_t d = 0; d < 7; ++d)
            sums[static_cast<size_t>(d)] +=
                weights[i] / total * static_cast<double>(testing::content(kKey, s.id, seen[i], d));
        }
        for (double v : sums) ASSERT_NEAR(static_cast<double>(got[at++]), v, 2e-6) << p << " " << h;
      }
    }
  }
  EXPECT_EQ(at, got.size());
}

class Mla : public ::testing::TestWithParam<size_t> {
 protected:
  void SetUp() override { MOESTRO_SKIP_UNLESS_ISA(kernel()); }
  const MlaKernel& kernel() const { return mla_kernels()[GetParam()]; }
  // AMX rounds queries and probabilities to bf16; all others only reorder float32 sums.
  double tolerance(DType dtype) const {
    return dtype == DType::kBF16 && kernel().name.find("amx") != std::string_view::npos ? 2e-2
                                                                                        : 1e-5;
  }
  bool runs(DType dtype) const { return kernel().why_not({dtype, 64, 64, 512, 64, 4096}).empty(); }
};

TEST_P(Mla, AgreesWithTheReference) {
  const std::vector<SequenceSpec> mixed{{1, 0, 19}, {2, 70, 1}, {3, 300, 1},
                                        {4, 0, 1},  {5, 61, 9}, {6, 255, 3}};
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    if (!runs(dtype)) continue;
    for (const MlaCase& shape : {MlaCase{4, 16, 8}, MlaCase{1, 16, 8}, MlaCase{5, 33, 7},
                                 MlaCase{16, 64, 16}, MlaCase{3, 48, 6}}) {
      MlaCase c = shape;
      c.dtype = dtype;
      for (int32_t page_size : {1, 16, 64}) {
        for (int32_t keep : {0, 3}) {
          const auto got = run_mla(kernel(), c, mixed, page_size, 1 + page_size % 3, keep);
          const auto want = run_mla(mla_reference(), c, mixed, page_size, 2, keep);
          EXPECT_LE(testing::row_error(got, want, c.latent), tolerance(dtype))
              << "heads " << c.heads << " latent " << c.latent << " page " << page_size << " keep "
              << keep;
        }
      }
    }
  }
}

TEST_P(Mla, AgreesAtFullWidthAndLongContext) {
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    if (!runs(dtype)) continue;
    for (int32_t heads : {64, 20}) {
      const MlaCase c{heads, 512, 64, dtype, 4};
      const std::vector<SequenceSpec> specs{{1, 130, 2}, {2, 600, 1}};
      EXPECT_LE(testing::row_error(run_mla(kernel(), c, specs, 64, 2),
                                   run_mla(mla_reference(), c, specs, 64, 2), 512),
                tolerance(dtype));
    }
    const MlaCase c{2, 32, 8, dtype, 30};
    const std::vector<SequenceSpec> specs{{1, 2998, 2}, {2, 1023, 2}, {3, 1500, 1}};
    for (int32_t keep : {0, 2})
      EXPECT_LE(testing::row_error(run_mla(kernel(), c, specs, 16, 3, keep),
                                   run_mla(mla_reference(), c, specs, 16, 2, keep), 32),
                2 * tolerance(dtype));
  }
}

TEST_P(Mla, DoesNotDependOnPagesChunksCompanyOrWorkers) {
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    if (!runs(dtype)) continue;
    for (int32_t keep : {0, 2}) {
      for (const MlaCase& shape : {MlaCase{6, 32, 8}, MlaCase{64, 16, 8}, MlaCase{1, 24, 4}}) {
        MlaCase c = shape;
        c.dtype = dtype;
        const size_t row = static_cast<size_t>(c.heads * c.latent);
        const auto whole = run_mla(kernel(), c, {{7, 0, 330}}, 16, 1, keep);
        EXPECT_TRUE(testing::same_bits(whole, run_mla(kernel(), c, {{7, 0, 330}}, 1, 3, keep)));
        EXPECT_TRUE(testing::same_bits(whole, run_mla(kernel(), c, {{7, 0, 330}}, 64, 2, keep)));
        // The same sequence in company, cut at odd places; then single tokens.
        for (const SequenceSpec& part :
             {SequenceSpec{7, 0, 37}, {7, 37, 100}, {7, 137, 192}, {7, 329, 1}, {7, 255, 2}}) {
          for (int workers : {1, 3}) {
            const auto got = run_mla(kernel(), c, {{1, 90, 1}, part, {2, 0, 21}, {3, 500, 1}}, 16,
                                     workers, keep);
            const std::vector<float> mine(
                got.begin() + static_cast<int64_t>(row),
                got.begin() + static_cast<int64_t>(row * static_cast<size_t>(1 + part.tokens)));
            const std::vector<float> same(
                whole.begin() + static_cast<int64_t>(row) * part.past,
                whole.begin() + static_cast<int64_t>(row) * (part.past + part.tokens));
            EXPECT_TRUE(testing::same_bits(mine, same))
                << part.past << "+" << part.tokens << " workers " << workers << " keep " << keep;
          }
        }
      }
    }
  }
}

TEST_P(Mla, SelectingAllPositionsIsDense) {
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    if (!runs(dtype)) continue;
    const MlaCase c{8, 32, 8, dtype};
    const std::vector<SequenceSpec> specs{{1, 700, 3}, {2, 0, 70}};
    EXPECT_TRUE(testing::same_bits(run_mla(kernel(), c, specs, 16, 2, 0),
                                   run_mla(kernel(), c, specs, 16, 2, 1)));
  }
}

std::string kernel_name(const ::testing::TestParamInfo<size_t>& info) {
  return std::string(mla_kernels()[info.param].name);
}
INSTANTIATE_TEST_SUITE_P(Kernels, Mla, ::testing::Range(size_t{0}, mla_kernels().size()),
                         kernel_name);

struct GqaCase {
  int32_t heads, kv_heads, head_dim, v_head_dim;
  int32_t window = 0;
  bool sinks = false;
  DType dtype = DType::kF32;
};

std::vector<float> run_gqa(const GqaKernel& kernel, const GqaCase& c,
                           const std::vector<SequenceSpec>& specs, int32_t page_size, int workers) {
  PagedBatch batch(specs, page_size);
  const int32_t width = c.heads * c.head_dim + 5;  // as inside a fused row
  const std::vector<float> q = batch.rows(kQ, width, 2);
  std::vector<float> sinks,
      out(static_cast<size_t>(batch.tokens()) * static_cast<size_t>(c.heads * c.v_head_dim),
          -77.0f);
  for (int32_t h = 0; h < c.heads; ++h)
    sinks.push_back(2 * testing::noise(77, static_cast<uint64_t>(h)));
  GqaArgs args{};
  args.step = &batch.step();
  args.q = q.data();
  args.q_stride = width;
  args.key = batch.cache(kKey, c.kv_heads * c.head_dim, c.dtype);
  args.value = batch.cache(kValue, c.kv_heads * c.v_head_dim, c.dtype, 64);
  args.heads = c.heads, args.kv_heads = c.kv_heads, args.head_dim = c.head_dim,
  args.v_head_dim = c.v_head_dim;
  args.scale = 1.0f / std::sqrt(static_cast<float>(c.head_dim));
  args.window = c.window;
  args.sinks = c.sinks ? sinks.data() : nullptr;
  args.out = out.data();
  const GqaShape shape{c.dtype,    batch.tokens(), c.heads,        c.kv_heads,
                       c.head_dim, c.v_head_dim,   batch.longest()};
  EXPECT_TRUE(kernel.why_not(shape).empty()) << kernel.name;
  testing::run_kernel(kernel, shape, args, workers);
  return out;
}

const GqaKernel& gqa_reference() { return gqa_kernels().back(); }

TEST(GqaReference, AgreesWithTheFormula) {
  const GqaCase c{4, 2, 6, 5, 3, true};
  const std::vector<SequenceSpec> specs{{5, 4, 3}, {9, 0, 2}};
  const std::vector<float> got = run_gqa(gqa_reference(), c, specs, 4, 2);
  size_t at = 0;
  for (const SequenceSpec& s : specs) {
    for (int32_t p = s.past; p < s.past + s.tokens; ++p) {
      for (int32_t h = 0; h < 4; ++h) {
        std::vector<double> sums(5);
        double total =
            std::exp(2 * static_cast<double>(testing::noise(77, static_cast<uint64_t>(h))));
        for (int32_t k = std::max(0, p - 2); k <= p; ++k) {
          double dot = 0;
          for (int32_t d = 0; d < 6; ++d)
            dot += 2 * static_cast<double>(testing::content(kQ, s.id, p, h * 6 + d)) *
                   static_cast<double>(testing::content(kKey, s.id, k, h / 2 * 6 + d));
          const double weight = std::exp(dot / std::sqrt(6.0));
          total += weight;
          for (int32_t d = 0; d < 5; ++d)
            sums[static_cast<size_t>(d)] +=
                weight * static_cast<double>(testing::content(kValue, s.id, k, h / 2 * 5 + d));
        }
        for (double v : sums)
          ASSERT_NEAR(static_cast<double>(got[at++]), v / total, 2e-6) << p << " " << h;
      }
    }
  }
  EXPECT_EQ(at, got.size());
}

class Gqa : public ::testing::TestWithParam<size_t> {
 protected:
  void SetUp() override { MOESTRO_SKIP_UNLESS_ISA(kernel()); }
  const GqaKernel& kernel() const { return gqa_kernels()[GetParam()]; }
  double tolerance(DType dtype) const {
    return dtype == DType::kBF16 && kernel().name.find("amx") != std::string_view::npos ? 2e-2
                                                                                        : 1e-5;
  }
  bool runs(DType dtype) const {
    return kernel().why_not({dtype, 64, 64, 8, 128, 128, 4096}).empty();
  }
};

constexpr GqaCase kGqaShapes[] = {{8, 2, 16, 16},
                                  {4, 4, 24, 16},
                                  {6, 1, 33, 17},
                                  {8, 1, 64, 64, 17, true},
                                  {3, 3, 16, 8, 0, true},
                                  {8, 4, 16, 16, 1},
                                  {64, 8, 64, 64, 128, true},
                                  {2, 1, 128, 128, 300}};

TEST_P(Gqa, AgreesWithTheReference) {
  const std::vector<SequenceSpec> mixed{{1, 0, 19}, {2, 70, 1}, {3, 700, 1},
                                        {4, 0, 1},  {5, 61, 9}, {6, 255, 3}};
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    if (!runs(dtype)) continue;
    for (GqaCase c : kGqaShapes) {
      c.dtype = dtype;
      for (int32_t page_size : {1, 16, 64}) {
        EXPECT_LE(
            testing::row_error(run_gqa(kernel(), c, mixed, page_size, 1 + page_size % 3),
                               run_gqa(gqa_reference(), c, mixed, page_size, 2), c.v_head_dim),
            tolerance(dtype))
            << "heads " << c.heads << "/" << c.kv_heads << " dim " << c.head_dim << " window "
            << c.window << " page " << page_size;
      }
    }
  }
}

TEST_P(Gqa, DoesNotDependOnPagesChunksCompanyOrWorkers) {
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    if (!runs(dtype)) continue;
    for (GqaCase c : {GqaCase{8, 2, 16, 16}, GqaCase{4, 1, 24, 8, 100, true}}) {
      c.dtype = dtype;
      const auto row = static_cast<int64_t>(c.heads * c.v_head_dim);
      const auto whole = run_gqa(kernel(), c, {{7, 0, 330}}, 16, 1);
      EXPECT_TRUE(testing::same_bits(whole, run_gqa(kernel(), c, {{7, 0, 330}}, 1, 3)));
      for (const SequenceSpec& part :
           {SequenceSpec{7, 0, 37}, {7, 37, 100}, {7, 137, 192}, {7, 329, 1}, {7, 255, 2}}) {
        for (int workers : {1, 3}) {
          const auto got =
              run_gqa(kernel(), c, {{1, 90, 1}, part, {2, 0, 21}, {3, 900, 1}}, 64, workers);
          const std::vector<float> mine(got.begin() + row, got.begin() + row * (1 + part.tokens));
          const std::vector<float> same(whole.begin() + row * part.past,
                                        whole.begin() + row * (part.past + part.tokens));
          EXPECT_TRUE(testing::same_bits(mine, same))
              << part.past << "+" << part.tokens << " workers " << workers;
        }
      }
    }
  }
}

std::string gqa_kernel_name(const ::testing::TestParamInfo<size_t>& info) {
  return std::string(gqa_kernels()[info.param].name);
}
INSTANTIATE_TEST_SUITE_P(Kernels, Gqa, ::testing::Range(size_t{0}, gqa_kernels().size()),
                         gqa_kernel_name);

}  // namespace
}  // namespace moestro::kernels

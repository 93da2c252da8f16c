// The CUDA MoE layer on a card against a scalar reference on the host from the same quantised
// weights: shapes, batch sizes, routing modes, adversarial routings, replay of a captured graph.
// Exit 77 (ctest: skipped) without a Hopper GPU.
//   moe_layer_test [int8|fp8|fp8_block|bf16|int4]  everything, or one format
//   moe_layer_test [format] quick           small shapes only
//   moe_layer_test [format] small           a few of them (for compute-sanitizer)
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <numeric>
#include <string>
#include <thread>

#include "random_moe.cuh"

using namespace moestro;
using namespace moestro::kernels::cuda;

namespace {

int failures = 0;
int checks = 0;

void expect(bool ok, const std::string& what) {
  ++checks;
  if (ok) return;
  ++failures;
  std::printf("FAILED  %s\n", what.c_str());
}

struct Chosen {
  std::vector<int32_t> ids;
  std::vector<float> weights;
};

// moe/router.h's rules in double precision.
Chosen reference_route(const DeviceMoeShape& s, const float* logits, const float* bias) {
  const int n = s.experts, k = s.top_k;
  std::vector<double> score(n), choice(n);
  const double max = *std::max_element(logits, logits + n);
  double sum = 0;
  for (int i = 0; i < n; ++i) sum += std::exp(logits[i] - max);
  for (int i = 0; i < n; ++i) {
    score[i] = s.router.softmax_after_topk ? logits[i]
               : s.router.sigmoid          ? 1 / (1 + std::exp(-double{logits[i]}))
                                           : std::exp(logits[i] - max) / sum;
    choice[i] = score[i] + (bias ? bias[i] : 0);
  }
  if (s.router.n_group > 1) {
    const int size = n / s.router.n_group;
    std::vector<std::pair<double, int>> groups;
    for (int g = 0; g < s.router.n_group; ++g) {
      std::vector<double> v(choice.begin() + g * size, choice.begin() + (g + 1) * size);
      std::sort(v.rbegin(), v.rend());
      groups.push_back({-(s.router.noaux_tc && size > 1 ? v[0] + v[1] : v[0]), g});
    }
    std::sort(groups.begin(), groups.end());
    for (int g = s.router.topk_group; g < s.router.n_group; ++g)
      std::fill_n(choice.begin() + groups[g].second * size, size, -INFINITY);
  }
  std::vector<int32_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return choice[a] > choice[b]; });
  Chosen c;
  double total = 0;
  std::vector<double> w(k);
  for (int j = 0; j < k; ++j) {
    c.ids.push_back(order[j]);
    w[j] =
        s.router.softmax_after_topk ? std::exp(score[order[j]] - score[order[0]]) : score[order[j]];
    total += w[j];
  }
  const bool norm = s.router.renormalize || s.router.softmax_after_topk;
  for (int j = 0; j < k; ++j)
    c.weights.push_back(static_cast<float>(w[j] / (norm ? total : 1) * s.router.scaling));
  return c;
}

// As the kernels quantise a row; returns its scale.
float quantize_row(const Format& f, const std::vector<float>& x, std::vector<float>& q) {
  if (f.largest == 0) {
    q = x;
    return 1;
  }
  float amax = 0;
  for (float v : x) amax = std::max(amax, std::fabs(v));
  float scale = amax / f.largest;
  if (f.weights == Weights::kFp8 && scale > 0) scale = std::exp2(std::ceil(std::log2(scale)));
  const float inverse = scale > 0 ? 1.0f / scale : 0.0f;
  for (size_t i = 0; i < x.size(); ++i)
    q[i] = f.weights == Weights::kInt8 ? std::nearbyint(x[i] * inverse)
                                       : static_cast<float>(__nv_fp8_e4m3(x[i] * inverse));
  return scale;
}

// One packed row times q, with all scales.
double dot(const RandomMoe& moe, const DeviceMatrix& m, const std::vector<float>& scales,
           uint32_t seed, int32_t expert, int32_t packed_row, const std::vector<float>& q,
           float row_scale) {
  const Format& f = moe.format;
  const float* of_expert = scales.data() + expert * moe.scales_of_expert(m);
  const int32_t w = packed_row / 128 % 2, h = packed_row / 8 % 2;
  auto scale_at = [&](int32_t k) -> double {
    if (f.largest == 0) return 1;
    if (!f.step_scales) return double{row_scale} * of_expert[packed_row];
    const int64_t step = int64_t{packed_row / kBlockRows} * m.k_steps() + k / kStepBytes;
    return double{row_scale} * of_expert[step * kStepScales + 2 * w + h];
  };
  double sum = 0;
  if (f.weights == Weights::kInt4) {
    auto word = [&](int64_t byte) {
      return weight_word(f.weights, seed,
                         static_cast<uint64_t>(m.int4_bytes() * expert + byte) / 4);
    };
    float scale = 0;
    for (int32_t k = 0; k < m.k; ++k) {
      const Int4Place at = int4_place(m, packed_row, k);
      if (k % kInt4StepValues == 0)
        scale = weight_value(Weights::kBf16, word(at.scale), static_cast<int>(at.scale / 2 % 2));
      const int code = static_cast<int>(word(at.word) >> at.bit & 15) - 8;
      sum += double{bf16_round(static_cast<float>(code) * scale)} * q[k];
    }
    return sum;
  }
  const int32_t values = 4 / f.value_bytes;
  for (int32_t k = 0; k < m.k; k += values) {
    const uint64_t at =
        static_cast<uint64_t>(m.bytes() * expert + packed_offset(m, packed_row, k * f.value_bytes));
    const uint32_t word = weight_word(f.weights, seed, at / 4);
    float part = 0;  // exact: at most four small products
    for (int32_t i = 0; i < std::min(values, m.k - k); ++i)
      part += weight_value(f.weights, word, i) * q[k + i];
    sum += scale_at(k) * part;
  }
  return sum;
}

// What one expert adds to a token's output, and the part of it (a squared norm) that hangs on
// undecided roundings of h.
struct ExpertOut {
  std::vector<double> out;
  double undecided = 0;
};

// e4m3 keeps three bits: a value of h that lies so near the middle of two of them that the error of
// a sum moves it over differs by 6 to 12 % from the reference's. The share of h's norm in such
// differences, squared; `h` before its rounding to bfloat16. Two sums of 128 e4m3 products, kept to
// about 2^-13 of the largest one, err by 2^-12 of h, and twice that is not rare.
double undecided_share(const Format& f, const std::vector<double>& h, float scale) {
  if (f.weights != Weights::kFp8 || scale == 0) return 0;
  double differ = 0, all = 0;
  for (size_t i = 0; i < h.size(); ++i) {
    auto rounded = [&](double v) {
      return double{scale} *
             static_cast<float>(__nv_fp8_e4m3(bf16_round(static_cast<float>(v)) / scale));
    };
    const double d = rounded(h[i] * (1 + 0x1p-11)) - rounded(h[i] * (1 - 0x1p-11));
    differ += d * d;
    all += h[i] * h[i];
  }
  return all > 0 ? differ / all : 0;
}

ExpertOut reference_expert(const RandomMoe& moe, const __nv_bfloat16* x, int32_t e, float weight) {
  const DeviceMoeShape& s = moe.shape;
  const Format& f = moe.format;
  ExpertOut result{std::vector<double>(s.hidden)};
  std::vector<double>& out = result.out;
  if (e < 0 || e >= s.experts) return result;
  std::vector<float> row(s.hidden), h(s.intermediate), q(s.hidden), hq(s.intermediate);
  for (int32_t i = 0; i < s.hidden; ++i) row[i] = __bfloat162float(x[i]);
  const float row_scale = quantize_row(f, row, q);
  std::vector<double> exact_h(s.intermediate);
  for (int32_t c = 0; c < s.intermediate; ++c) {
    double v[2];
    for (int side = 0; side < 2; ++side) {
      v[side] = dot(moe, moe.up, moe.up_scales, 1, e, gate_up_row(c, side), q, row_scale);
    }
    exact_h[c] = v[0] / (1 + std::exp(-v[0])) * v[1];
    h[c] = bf16_round(static_cast<float>(exact_h[c]));
  }
  const float h_scale = quantize_row(f, h, hq);
  for (int32_t c = 0; c < s.hidden; ++c)
    out[c] = double{weight} * dot(moe, moe.down, moe.down_scales, 2, e, plain_row(c), hq, h_scale);
  double norm = 0;
  for (const double v : out) norm += v * v;
  result.undecided = undecided_share(f, exact_h, h_scale) * norm;
  return result;
}

struct Runner {
  const RandomMoe& moe;
  DeviceMoeShape shape;
  int32_t sms;
  platform::CudaStream stream = must(platform::CudaStream::create());
  platform::DeviceArray<std::byte> workspace;

  Runner(const RandomMoe& m, const DeviceMoeShape& s, int32_t num_sms)
      : moe(m), shape(s), sms(num_sms) {
    shape.value_bytes = m.format.value_bytes;
    shape.step_scales = m.format.step_scales;
    shape.int4 = m.format.weights == Weights::kInt4;
    const size_t bytes = static_cast<size_t>(moe_workspace_bytes(shape, sms));
    workspace = must(platform::DeviceArray<std::byte>::allocate(bytes));
    cudaMemset(workspace.data(), 0xee, bytes);  // garbage, NaN as float
    cudaDeviceSynchronize();
    must(prepare_moe_workspace(shape, sms, workspace.data(), stream.get()));
  }
  std::vector<uint16_t> run(MoeInputs& in, const DeviceMoeArgs& args) {
    cudaMemset(in.out.data(), 0xff, in.out.bytes());
    cudaDeviceSynchronize();
    must(moe.format.kernel->run(shape, sms, moe.weights(), args, stream.get()));
    return output(in);
  }
  std::vector<uint16_t> output(MoeInputs& in) {
    must(stream.synchronize());
    std::vector<uint16_t> out(in.out.size());
    cudaMemcpy(out.data(), in.out.data(), in.out.bytes(), cudaMemcpyDeviceToHost);
    return out;
  }
};

// Relative errors of sampled tokens, infinity if any element was not written or one beyond the
// tokens was.
struct Error {
  double worst = 0, median = 0;
  double beyond = 0;  // the worst after taking off what undecided roundings may have moved
};

Error error_of(const RandomMoe& moe, const DeviceMoeShape& s, const MoeInputs& in, int32_t tokens,
               const std::vector<uint16_t>& out, const std::vector<Chosen>* given,
               const std::vector<float>& bias, int samples) {
  const size_t used = static_cast<size_t>(tokens) * s.hidden;
  for (size_t i = 0; i < out.size(); ++i)
    if ((out[i] == 0xffff) != (i >= used)) return {INFINITY, INFINITY, INFINITY};
  std::vector<int32_t> picked;
  for (int i = 0; i < std::min(samples, tokens); ++i)
    picked.push_back(static_cast<int32_t>(int64_t{i} * (tokens - 1) /
                                          std::max(1, std::min(samples, tokens) - 1)));
  std::vector<Chosen> chosen;
  for (const int32_t t : picked)
    chosen.push_back(given ? (*given)[t]
                           : reference_route(s, in.logits.data() + int64_t{t} * s.experts,
                                             bias.empty() ? nullptr : bias.data()));
  const size_t slots = static_cast<size_t>(s.top_k);
  std::vector<ExpertOut> parts(picked.size() * slots);
  std::atomic<size_t> next = 0;
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < std::max(1u, std::thread::hardware_concurrency()); ++i)
    threads.emplace_back([&] {
      for (size_t k = next++; k < parts.size(); k = next++)
        parts[k] = reference_expert(moe, in.x.data() + int64_t{picked[k / slots]} * s.hidden,
                                    chosen[k / slots].ids[k % slots],
                                    chosen[k / slots].weights[k % slots]);
    });
  for (auto& t : threads) t.join();
  std::vector<double> error;
  double beyond = 0;
  for (size_t i = 0; i < picked.size(); ++i) {
    double diff = 0, norm = 0, undecided = 0;
    for (size_t j = 0; j < slots; ++j) undecided += parts[i * slots + j].undecided;
    for (int32_t k = 0; k < s.hidden; ++k) {
      double ref = 0;
      for (size_t j = 0; j < slots; ++j) ref += parts[i * slots + j].out[k];
      const uint32_t bits = uint32_t{out[static_cast<size_t>(picked[i]) * s.hidden + k]} << 16;
      float v;
      std::memcpy(&v, &bits, 4);
      if (!(std::fabs(v) < 1e30f)) diff = INFINITY;
      diff += (v - ref) * (v - ref);
      norm += ref * ref;
    }
    error.push_back(norm > 0 ? std::sqrt(diff / norm) : std::sqrt(diff));
    // A quarter more: the columns of down that such values meet differ in their norms.
    const double decided = std::max(0.0, diff - 1.25 * undecided);
    beyond = std::max(beyond, std::sqrt(norm > 0 ? decided / norm : decided));
  }
  if (error.empty()) return {};
  std::sort(error.begin(), error.end());
  return {error.back(), error[error.size() / 2], beyond};
}

void expect_close(const Format& f, const Error& e, const std::string& what) {
  const bool fp8 = f.weights == Weights::kFp8;
  expect(fp8 ? e.beyond < 1e-2 && e.worst < 6e-2 : e.worst < 5e-3,
         what + ": error " + std::to_string(e.worst) + ", median " + std::to_string(e.median) +
             ", beyond undecided roundings " + std::to_string(e.beyond));
}

std::string name_of(const Format& f, const DeviceMoeShape& s, int32_t tokens) {
  return std::string(f.name) + " H" + std::to_string(s.hidden) + " I" +
         std::to_string(s.intermediate) + " E" + std::to_string(s.experts) + " top-" +
         std::to_string(s.top_k) + " T" + std::to_string(tokens) + " tile " +
         std::to_string(moe_row_tile(s));
}

// Every batch size: error, two runs alike, and with exact sums a token's bits the same in any batch
// and with any tile.
void test_batches(const Format& f, DeviceMoeShape s, const std::vector<int32_t>& batches,
                  int32_t sms, int samples) {
  s.max_tokens = 1;
  RandomMoe moe(f, s);
  std::vector<uint16_t> alone;
  for (int32_t tokens : batches) {
    s.max_tokens = std::max(1, tokens);
    Runner runner(moe, s, sms);
    MoeInputs in(s, tokens, 1234);  // x of the first token is the same in every batch
    MoeInputs one(s, std::min(tokens, 1), 1234);
    // logits come after x: give the first token the same ones everywhere
    for (MoeInputs* m : {&in, &one}) {
      for (int32_t e = 0; e < s.experts && tokens > 0; ++e)
        m->logits[e] = std::sin(static_cast<float>(e * e + 1));
      must(m->logit_data.upload(m->logits.data(), m->logits.size(), nullptr));
    }
    const auto out = runner.run(in, in.args(runner.workspace.data()));
    const Error error = error_of(moe, s, in, tokens, out, nullptr, {}, samples);
    std::printf("  %-48s error %.2e, median %.2e, beyond undecided roundings %.2e\n",
                name_of(f, s, tokens).c_str(), error.worst, error.median, error.beyond);
    expect_close(f, error, name_of(f, s, tokens));
    expect(out == runner.run(in, in.args(runner.workspace.data())),
           name_of(f, s, tokens) + ": two runs differ");
    if (tokens == 0) continue;
    const std::vector<uint16_t> first(out.begin(), out.begin() + s.hidden);
    if (alone.empty()) alone = first;
    if (!f.exact_sums) continue;  // where a sum is cut depends on the batch
    expect(first == alone, name_of(f, s, tokens) + ": the first token's bits depend on the batch");
    const auto lone = runner.run(one, one.args(runner.workspace.data()));
    expect(std::equal(alone.begin(), alone.end(), lone.begin()),
           name_of(f, s, tokens) + ": one token in this bucket differs");
  }
}

// Given ids: all rows on one expert, exact tile edges, ids of other ranks, every tile size.
void test_given_ids(const Format& f, DeviceMoeShape s, int32_t sms) {
  s.top_k = 2;
  s.max_tokens = 1;
  const RandomMoe moe(f, s);
  for (int32_t tile : {8, 16, 32, 64, 160}) {
    s.row_tile = tile;
    for (int32_t tokens : {1, 7, 8, 9, 63, 64, 65, 127, 128, 129, 161, 300, 500}) {
      s.max_tokens = tokens;
      Runner runner(moe, s, sms);
      MoeInputs in(s, tokens, 5);
      std::vector<Chosen> chosen;
      std::vector<int32_t> ids;
      std::vector<float> weights;
      for (int32_t t = 0; t < tokens; ++t) {
        // slot 0: everyone on the last expert; slot 1: nobody, out of range, or a rare one
        const int32_t other = t % 3 == 0 ? -1 : t % 3 == 1 ? s.experts + 5 : t % (s.experts - 1);
        chosen.push_back({{s.experts - 1, other}, {0.75f, 0.5f}});
        ids.insert(ids.end(), {s.experts - 1, other});
        weights.insert(weights.end(), {0.75f, 0.5f});
      }
      auto id_data = must(platform::DeviceArray<int32_t>::allocate(ids.size()));
      auto weight_data = must(platform::DeviceArray<float>::allocate(weights.size()));
      must(id_data.upload(ids.data(), ids.size(), nullptr));
      must(weight_data.upload(weights.data(), weights.size(), nullptr));
      cudaDeviceSynchronize();
      DeviceMoeArgs args = in.args(runner.workspace.data());
      args.logits = nullptr;
      args.ids = id_data.data();
      args.weights = weight_data.data();
      expect_close(f, error_of(moe, s, in, tokens, runner.run(in, args), &chosen, {}, 16),
                   "given ids, " + name_of(f, s, tokens));
    }
  }
}

// Nothing but ids of other ranks: zeros, not yesterday's bytes.
void test_foreign_ids(const Format& f, DeviceMoeShape s, int32_t sms) {
  for (int32_t tokens : {3, 40, 600}) {
    s.max_tokens = tokens;
    const RandomMoe moe(f, s);
    Runner runner(moe, s, sms);
    MoeInputs in(s, tokens, 6);
    const std::vector<int32_t> ids(static_cast<size_t>(tokens) * s.top_k, -1);
    const std::vector<float> weights(ids.size(), 1.0f);
    auto id_data = must(platform::DeviceArray<int32_t>::allocate(ids.size()));
    auto weight_data = must(platform::DeviceArray<float>::allocate(weights.size()));
    must(id_data.upload(ids.data(), ids.size(), nullptr));
    must(weight_data.upload(weights.data(), weights.size(), nullptr));
    cudaDeviceSynchronize();
    DeviceMoeArgs args = in.args(runner.workspace.data());
    args.logits = nullptr;
    args.ids = id_data.data();
    args.weights = weight_data.data();
    const auto out = runner.run(in, args);
    expect(std::count(out.begin(), out.end(), uint16_t{0}) == static_cast<int64_t>(out.size()),
           std::string(f.name) + ": foreign ids alone, " + std::to_string(tokens) +
               " tokens: not all zero");
  }
}

// Every routing mode, with ties and a zero row.
void test_routers(const Format& f, DeviceMoeShape s, int32_t sms) {
  s.max_tokens = 40;
  RandomMoe moe(f, s);
  for (int mode = 0; mode < 6; ++mode) {
    s.router = {};
    s.router.sigmoid = mode == 1 || mode == 3 || mode == 4;
    s.router.softmax_after_topk = mode == 2;
    s.router.noaux_tc = mode == 3;
    if (mode >= 3 && mode < 5) s.router.n_group = 4, s.router.topk_group = 2;
    s.router.renormalize = mode == 1 || mode == 3 || mode == 5;
    s.router.scaling = mode == 3 ? 2.5f : 1.0f;
    Runner runner(moe, s, sms);
    MoeInputs in(s, 33, 90 + mode);
    for (int32_t e = 0; e < s.experts; ++e) in.logits[e] = 0.25f;  // all equal: lowest ids
    std::fill_n(in.x.begin() + s.hidden, s.hidden, __float2bfloat16(0.0f));  // a zero row
    must(in.logit_data.upload(in.logits.data(), in.logits.size(), nullptr));
    must(in.x_data.upload(in.x.data(), in.x.size(), nullptr));
    std::vector<float> bias;
    if (mode == 3 || mode == 4)
      for (int32_t e = 0; e < s.experts; ++e)
        bias.push_back(e == 0 ? 0.0f : 0.1f * std::sin(static_cast<float>(e)));
    auto bias_data = must(platform::DeviceArray<float>::allocate(bias.size()));
    must(bias_data.upload(bias.data(), bias.size(), nullptr));
    cudaDeviceSynchronize();
    DeviceMoeArgs args = in.args(runner.workspace.data());
    args.bias = bias.empty() ? nullptr : bias_data.data();
    expect_close(f, error_of(moe, s, in, 33, runner.run(in, args), nullptr, bias, 33),
                 std::string(f.name) + " router mode " + std::to_string(mode));
  }
}

// One captured graph, replayed with other inputs and token counts, gives what direct launches give.
void test_replay(const Format& f, DeviceMoeShape s, int32_t sms, int32_t max_tokens, int rounds) {
  s.max_tokens = max_tokens;
  RandomMoe moe(f, s);
  Runner graphed(moe, s, sms), direct(moe, s, sms);
  MoeInputs in(s, max_tokens, 1);
  const auto graph = must(platform::CudaGraph::capture(graphed.stream, [&] {
    for (int i = 0; i < 3; ++i)  // back to back: launches of neighbouring layers overlap
      MOESTRO_TRY(f.kernel->run(graphed.shape, sms, moe.weights(),
                                in.args(graphed.workspace.data()), graphed.stream.get()));
    return Status();
  }));
  int differ = 0;
  std::string which;
  for (int i = 0; i < rounds; ++i) {
    const int32_t tokens = (i * 37) % (max_tokens + 1);
    in.set(s, tokens, 100 + i);
    cudaMemset(in.out.data(), 0xff, in.out.bytes());
    cudaDeviceSynchronize();
    must(graph.launch(graphed.stream));
    const auto replayed = graphed.output(in);
    if (replayed == direct.run(in, in.args(direct.workspace.data()))) continue;
    if (++differ <= 8) which += " " + std::to_string(tokens);
  }
  expect(differ == 0, std::string(f.name) + " replay, at most " + std::to_string(max_tokens) +
                          " tokens: " + std::to_string(differ) + " of " + std::to_string(rounds) +
                          " rounds differ, with tokens" + which);
}

// Two streams, each with its own workspace, layers of both in flight at once: kernels whose blocks
// wait for one another must not stop one another.
void test_two_streams(const Format& f, DeviceMoeShape s, int32_t sms, int32_t max_tokens,
                      int rounds) {
  s.max_tokens = max_tokens;
  RandomMoe moe(f, s);
  Runner a(moe, s, sms), b(moe, s, sms);
  MoeInputs in_a(s, max_tokens, 11), in_b(s, std::max(1, max_tokens / 2), 12);
  const auto alone_a = a.run(in_a, in_a.args(a.workspace.data())),
             alone_b = b.run(in_b, in_b.args(b.workspace.data()));
  cudaMemset(in_a.out.data(), 0xff, in_a.out.bytes());
  cudaMemset(in_b.out.data(), 0xff, in_b.out.bytes());
  cudaDeviceSynchronize();
  for (int i = 0; i < rounds; ++i) {
    must(f.kernel->run(a.shape, sms, moe.weights(), in_a.args(a.workspace.data()), a.stream.get()));
    must(f.kernel->run(b.shape, sms, moe.weights(), in_b.args(b.workspace.data()), b.stream.get()));
  }
  expect(a.output(in_a) == alone_a && b.output(in_b) == alone_b,
         std::string(f.name) + ": two streams, " + std::to_string(max_tokens) + " tokens differ");
}

// pack_gate_up and pack_plain against the formula the reference reads by.
void test_packing() {
  const int32_t hidden = 200, inter = 72;
  std::vector<int8_t> gate(hidden * inter), up(gate.size()), down(gate.size());
  std::mt19937 rng(3);
  for (auto* m : {&gate, &up, &down})
    for (auto& v : *m) v = static_cast<int8_t>(rng());
  const DeviceMatrix u = gate_up_matrix(hidden, inter, 1), d{hidden, inter, 1};
  std::vector<int8_t> packed_up(u.bytes()), packed_down(d.bytes());
  pack_gate_up(u, inter, gate.data(), up.data(), nullptr, nullptr, packed_up.data(), nullptr);
  pack_plain(d, down.data(), nullptr, packed_down.data(), nullptr);
  bool same = true;
  for (int32_t c = 0; c < inter; ++c)
    for (int32_t k = 0; k < hidden; ++k) {
      same &= packed_up[packed_offset(u, gate_up_row(c, 0), k)] == gate[c * hidden + k];
      same &= packed_up[packed_offset(u, gate_up_row(c, 1), k)] == up[c * hidden + k];
      same &= packed_down[packed_offset(d, plain_row(k), c)] == down[k * inter + c];
    }
  expect(same, "packed matrices do not hold the source");
}

DeviceMoeShape make_shape(int32_t experts, int32_t top_k, int32_t hidden, int32_t inter) {
  DeviceMoeShape s;
  s.experts = experts;
  s.top_k = top_k;
  s.hidden = hidden;
  s.intermediate = inter;
  s.router.renormalize = true;
  return s;
}

}  // namespace

int main(int argc, char** argv) {
  bool small = false, quick = false;
  const char* only = nullptr;
  for (int i = 1; i < argc; ++i) {
    small |= std::strcmp(argv[i], "small") == 0;
    quick |= std::strcmp(argv[i], "quick") == 0;
    if (!small && !quick) only = argv[i];
  }
  const auto device = platform::read_cuda_device(0);
  if (!device.ok() || !device->is_hopper()) {
    std::printf("SKIPPED: %s\n", device.ok() ? (device->name + " is no Hopper GPU").c_str()
                                             : device.status().message().c_str());
    return 77;
  }
  const int32_t sms = device->num_sms;
  test_packing();
  const DeviceMoeShape tiny = make_shape(6, 2, 264, 200), odd = make_shape(20, 3, 520, 328);
  for (const Format& f :
       {Format::int8(), Format::fp8(), Format::fp8_block(), Format::bf16(), Format::int4()}) {
    if (only && only != std::string(f.name)) continue;
    if (small) {
      test_batches(f, tiny, {0, 1, 9, 200}, sms, 9);
      test_batches(f, odd, {40, 600}, sms, 4);
      test_replay(f, tiny, sms, 8, 2);
      test_replay(f, tiny, sms, 64, 2);
      continue;
    }
    test_batches(f, tiny, {0, 1, 2, 8, 32, 128, 513}, sms, 16);
    test_batches(f, odd, {0, 1, 3, 8, 33, 128, 512, 2048}, sms, 16);
    test_given_ids(f, tiny, sms);
    test_foreign_ids(f, tiny, sms);
    test_routers(f, make_shape(64, 4, 256, 128), sms);
    test_routers(f, make_shape(352, 6, 256, 128), sms);
    // Rows of h too long for a warp's registers, several a group: once read before they were there.
    const DeviceMoeShape wide = make_shape(4, 2, 264, 6000);
    test_batches(f, wide, {1, 2, 5, 8, 32}, sms, 8);
    test_replay(f, wide, sms, 8, 200);
    for (int32_t tokens : {8, 64, 600}) {
      test_replay(f, odd, sms, tokens, 200);
      test_two_streams(f, odd, sms, tokens, 100);
    }
    if (quick) continue;
    const std::vector<int32_t> all = {1, 0, 8, 32, 128, 512, 2048, 8192};
    test_batches(f, make_shape(128, 8, 2048, 768), all, sms, 8);
    test_batches(f, make_shape(128, 8, 4096, 1408), all, sms, 4);
    test_batches(f, make_shape(8, 2, 4096, 14336), all, sms, 4);
    test_batches(f, make_shape(256, 8, 6144, 2048), all, sms, 4);
    test_batches(f, make_shape(256, 8, 7168, 2048), all, sms, 4);
  }
  const cudaError_t last = cudaDeviceSynchronize();
  expect(last == cudaSuccess, cudaGetErrorString(last));
  std::printf("%s: %d checks, %d failed\n", failures ? "FAILED" : "passed", checks, failures);
  return failures != 0;
}

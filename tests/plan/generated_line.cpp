#include "plan/generated_line.h"

#include <random>
#include <span>
#include <string_view>

#include "base/format.h"
#include "base/json.h"

namespace moestro::tests {
namespace {

using std::string_view;

constexpr string_view kShapes[] = {"GLM-5", "DeepSeek-V3", "GLM-4.5-Air", "Qwen3-30B-A3B",
                                   "Mixtral-8x7B"};
constexpr string_view kTiny[] = {"glm_moe_dsa",  "glm_moe_dsa_shared_index",
                                 "qwen3_moe",    "qwen2_moe",
                                 "olmoe",        "mixtral",
                                 "glm4_moe",     "minimax_m2",
                                 "qwen3",        "llama",
                                 "deepseek_v2",  "deepseek_v3",
                                 "deepseek_v32", "glm4_moe_lite",
                                 "gpt_oss"};

#define MOESTRO_CT(format, weights, inputs)                                \
  R"({"quant_method":"compressed-tensors","format":")" format              \
  R"(","ignore":["lm_head","re:.*gate$"],)"                                \
  R"("config_groups":{"group_0":{"targets":["Linear"],"weights":)" weights \
  R"(,"input_activations":)" inputs "}}}"
constexpr string_view kQuant[] = {
    "",
    MOESTRO_CT("int-quantized",
               R"({"num_bits":8,"type":"int","strategy":"channel","symmetric":true})",
               R"({"num_bits":8,"type":"int","strategy":"token","dynamic":true,"symmetric":true})"),
    MOESTRO_CT(
        "float-quantized", R"({"num_bits":8,"type":"float","strategy":"channel","symmetric":true})",
        R"({"num_bits":8,"type":"float","strategy":"token","dynamic":true,"symmetric":true})"),
    MOESTRO_CT(
        "float-quantized", R"({"num_bits":8,"type":"float","strategy":"tensor","symmetric":true})",
        R"({"num_bits":8,"type":"float","strategy":"tensor","dynamic":false,"symmetric":true})"),
    MOESTRO_CT(
        "float-quantized",
        R"({"num_bits":8,"type":"float","strategy":"block","block_structure":[128,128],"symmetric":true})",
        R"({"num_bits":8,"type":"float","strategy":"group","group_size":128,"dynamic":true,"symmetric":true})"),
    MOESTRO_CT("pack-quantized",
               R"({"num_bits":4,"type":"int","strategy":"group","group_size":32,"symmetric":true})",
               "null"),
    MOESTRO_CT(
        "pack-quantized",
        R"({"num_bits":4,"type":"int","strategy":"group","group_size":128,"symmetric":false})",
        "null"),
    MOESTRO_CT("pack-quantized",
               R"({"num_bits":4,"type":"int","strategy":"channel","symmetric":true})", "null"),
    MOESTRO_CT(
        "pack-quantized",
        R"({"num_bits":4,"type":"int","strategy":"group","group_size":128,"symmetric":true})",
        R"({"num_bits":8,"type":"int","strategy":"token","dynamic":true,"symmetric":true})"),
    R"({"quant_method":"fp8","weight_block_size":[128,128],"activation_scheme":"dynamic"})",
    R"({"quant_method":"gptq","bits":4,"group_size":128,"desc_act":false,"sym":true})",
    R"({"quant_method":"awq","bits":4,"group_size":128,"zero_point":true,"version":"gemm"})",
    R"({"quant_method":"slimquant_w4a8"})",
    R"({"quant_method":"nothing_known"})",
};
#undef MOESTRO_CT

constexpr string_view kIsa[] = {"auto",        "baseline",          "avx2",   "avx512",
                                "avx512_vnni", "amx_int8,amx_bf16", "avx1024"};
constexpr string_view kMachines[] = {"amx-2-cores", "amx-32-cores", "avx2-desktop",
                                     "h100-node",   "h100",         "amx-8-hosts"};
constexpr string_view kKernels[] = {"linear=linear_int8_ref",
                                    "linear=linear_bf16_avx2",
                                    "expert_mlp=expert_mlp_int8_amx",
                                    "expert_mlp=expert_mlp_bf16_ref",
                                    "mla=mla_ref",
                                    "mla=mla_avx512",
                                    "gqa=gqa_ref",
                                    "gqa=gqa_avx2",
                                    "sparse_index=sparse_index_ref",
                                    "row_ops=row_ops_ref",
                                    "row_ops=row_ops_avx512",
                                    "nothing=linear_ref",
                                    "linear",
                                    "head_linear=head_linear_f32_ref"};

class Generator {
 public:
  explicit Generator(uint64_t seed) : random_(seed) {}

  // Two lines of three hold nothing that is wrong by itself; the third may.
  GeneratedLine any() {
    careful_ = chance(67);
    const bool tiny = chance(60);
    model(tiny ? "/tests/golden/" : "/models/shapes/", tiny ? some(kTiny, 10) : some(kShapes, 5));
    overrides(tiny, careful_ && chance(40) ? kQuant[pick(2)] : some(kQuant, 12));
    if (tiny || chance(50)) add("--load-format", "dummy");
    if (chance(25))
      add("--hardware",
          format("{}/models/hardware/{}.json", MOESTRO_SOURCE_DIR, some(kMachines, 6)));
    if (chance(30)) add("--isa", some(kIsa, 3));
    if (chance(careful_ ? 8 : 30)) add("--kernel", some(kKernels, 11));
    if (chance(5)) add("--kernel", some(kKernels, 11));
    if (chance(15)) add("--dtype", some(kDtypes, 3));
    if (chance(10)) add("--kv-cache-dtype", some(kKvTypes, 3));
    if (chance(60)) add("--max-model-len", some(kLengths, 3));
    if (chance(30)) add("--max-num-seqs", some(kCounts, 3));
    if (chance(30)) add("--max-num-batched-tokens", some(kTokens, 3));
    if (chance(20)) add("--threads", some(kThreads, 3));
    if (chance(15)) add("--block-size", some(kBlocks, 3));
    if (chance(10)) add("--kv-cache-memory-bytes", some(kBytes, 2));
    if (chance(careful_ ? 2 : 20)) add("-q", some(kMethods, 6));
    if (chance(10)) words_.emplace_back("--strict");
    if (chance(10)) words_.emplace_back("--enforce-eager");
    if (chance(5)) words_.emplace_back("--no-enable-chunked-prefill");
    if (chance(40)) parallel();
    return {words_};
  }

  GeneratedLine runnable() {
    model("/tests/golden/", some(kTiny, std::size(kTiny)));
    overrides(true, kQuant[pick(3)]);
    add("--load-format", "dummy");
    add("--max-model-len", "96");
    add("--max-num-seqs", "4");
    add("--threads", pick(2) == 0 ? "1" : "2");
    add("--kernel-table", chance(50) ? "none" : "measure");
    words_.emplace_back("--no-pin-threads");
    if (chance(50)) add("--isa", pick(2) == 0 ? "auto" : "baseline");
    if (chance(30)) add("--dtype", "float32");
    if (chance(20)) add("--kernel", "row_ops=row_ops_ref");
    if (chance(30)) add("--max-num-batched-tokens", "40");
    return {words_};
  }

 private:
  static constexpr string_view kDtypes[] = {"auto", "bfloat16", "float16", "float32", "int8"};
  static constexpr string_view kKvTypes[] = {"auto", "bfloat16", "float32", "fp8_ds_mla", "int3"};
  static constexpr string_view kLengths[] = {"256", "auto", "512", "4k",
                                             "1",   "32K",  "0",   "10000000"};
  static constexpr string_view kCounts[] = {"1", "3", "16", "256", "0", "-1"};
  static constexpr string_view kTokens[] = {"16", "512", "8192", "1", "0", "-1"};
  static constexpr string_view kThreads[] = {"1", "2", "64", "0", "many"};
  static constexpr string_view kBlocks[] = {"16", "64", "1", "0", "1000"};
  static constexpr string_view kBytes[] = {"64M", "4G", "1M", "0"};
  static constexpr string_view kMethods[] = {"compressed-tensors", "fp8", "gptq", "awq",
                                             "slimquant_marlin",   "none"};
  static constexpr string_view kSizes[] = {"1", "2", "4", "8", "3", "16", "2048", "0"};
  static constexpr string_view kAll2All[] = {"allgather_reducescatter", "deepep_low_latency",
                                             "deepep_high_throughput", "pplx", "carrier_pigeon"};

  void parallel() {
    if (chance(50)) add("-tp", some(kSizes, 4));
    if (chance(50)) add("-dp", some(kSizes, 5));
    if (chance(5)) add("-pp", some(kSizes, 2));
    if (chance(60)) words_.emplace_back("--enable-expert-parallel");
    if (chance(30)) add("--expert-placement-strategy", pick(2) == 0 ? "linear" : "round_robin");
    if (chance(40)) add("--all2all-backend", some(kAll2All, 4));
    if (!careful_ && chance(10)) words_.emplace_back("--enable-eplb");
    if (chance(20)) add("--moe-backend", careful_ || pick(2) == 0 ? "auto" : "marlin");
  }

  void model(string_view folder, string_view name) {
    words_.push_back(format("{}{}{}", MOESTRO_SOURCE_DIR, folder, name));
  }
  // Few layers, so that thousands plan in seconds; dense ones among them where the model has them.
  void overrides(bool tiny, string_view quant) {
    std::string text;
    if (!tiny) text = format("\"num_hidden_layers\":{}", 4 + pick(2));
    if (!quant.empty())
      text += format("{}\"quantization_config\":{}", text.empty() ? "" : ",", quant);
    if (!text.empty()) add("--hf-overrides", "{" + text + "}");
  }
  void add(string_view flag, string_view value) {
    words_.emplace_back(flag);
    words_.emplace_back(value);
  }
  void add(string_view flag, const std::string& value) { add(flag, string_view(value)); }
  void add(string_view flag, const char* value) { add(flag, string_view(value)); }
  size_t pick(size_t n) { return static_cast<size_t>(random_() % n); }
  bool chance(size_t percent) { return pick(100) < percent; }
  // good: how many at the front are right by themselves.
  string_view some(std::span<const string_view> list, size_t good) {
    return list[pick(careful_ ? good : list.size())];
  }

  std::mt19937_64 random_;
  bool careful_ = true;
  std::vector<std::string> words_;
};

}  // namespace

std::string GeneratedLine::text() const {
  std::string out = "moestro explain";
  for (const std::string& w : words) {
    const bool plain = w.find_first_of(" \"'{}[]") == std::string::npos;
    out += plain ? " " + w : " '" + w + "'";
  }
  return out;
}

GeneratedLine generate_line(uint64_t seed) { return Generator(seed).any(); }
GeneratedLine generate_runnable_line(uint64_t seed) { return Generator(seed).runnable(); }

}  // namespace moestro::tests

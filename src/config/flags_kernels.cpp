// Flag rows: Kernel choice, and what belongs to compilers and graphs elsewhere. Read by flags.cpp
// only.
#include "config/flag_rows.h"

namespace moestro::config {
namespace {

using enum Kind;

constexpr Flag kKernel[] = {
    honoured("--isa", kText, "auto",
             "Instruction sets that kernels may use, such as avx2 or avx512,avx512_vnni; auto is "
             "all this processor has",
             MOESTRO_FIELD(moe.isa))
        .ours()
        .on(kEngineVerbs | Verb::kBenchMoe)
        .common(),
    honoured("--kernel", kAppend, "",
             "OP=NAME: use this kernel for the op, or fail; explain lists both; may be given again",
             MOESTRO_FIELD(moe.kernels))
        .ours()
        .on(kEngineVerbs | Verb::kBenchMoe)
        .common(),
    honoured(
        "--kernel-table", kText, "measure",
        "Measured times that choose between kernels: measure takes them at the first start and "
        "keeps them in ~/.cache/moestro; none leaves the choice to the lists' order; a path "
        "keeps them there",
        MOESTRO_FIELD(moe.kernel_table))
        .ours()
        .on(kEngineVerbs | Verb::kBenchMoe)
        .common(),
    honoured("--strict", kPair, "false",
             "Fail where the plan would take something else than what was asked for",
             MOESTRO_FIELD(moe.strict))
        .ours()
        .common(),
    no_effect("--ir-op-priority", kJson, "{}", "Preferred implementations per internal operator",
              "the plan chooses kernels; see explain")
        .keys("rms_norm|fused_add_rms_norm"),
    no_effect("--enable-flashinfer-autotune", kPair, "",
              "Tune FlashInfer kernels at warm-up; unset follows the optimization level",
              "the plan chooses kernels; see explain"),
    no_effect("--enable-bf16x3-router-gemm", kPair, "false",
              "Experimental router matrix product on SM100",
              "the plan chooses kernels; see explain"),
    refused("--moe-backend", kWord, "auto", "Kernel family for experts",
            "the plan chooses, see explain; --kernel forces one")
        .choices("aiter|auto|batched_triton|cutlass|deep_gemm|deep_gemm_mega_moe|emulation|"
                 "flashinfer_b12x|flashinfer_cutedsl|flashinfer_cutlass|flashinfer_trtllm|flydsl|"
                 "hpc|humming|marlin|triton|triton_unfused"),
    refused("--linear-backend", kWord, "auto", "Kernel family for quantised linear layers",
            "the plan chooses, see explain; --kernel forces one")
        .choices("aiter|auto|b12x|conch|cutlass|deep_gemm|emulation|exllama|fbgemm|flashinfer_b12x|"
                 "flashinfer_cudnn|flashinfer_cutedsl|flashinfer_cutlass|flashinfer_trtllm|humming|"
                 "machete|marlin|torch|triton|xpu|xpu_woq"),
};

constexpr Flag kAttention[] = {
    no_effect("--attention-backend", kText, "",
              "Attention kernel family by name, upper-cased; unset or auto picks one",
              "the plan chooses attention kernels; see explain, and --kernel to force one")
        .nullable(),
};

constexpr Flag kCompilation[] = {
    no_effect("--cudagraph-capture-sizes", kInts, "",
              "Batch sizes to capture; a shortcut into the compilation config",
              "there is no compiler and there are no graphs"),
    no_effect("--max-cudagraph-capture-size", kInt, "",
              "Largest captured batch size; a shortcut into the compilation config",
              "there is no compiler and there are no graphs"),
};

constexpr Flag kMamba[] = {
    no_effect("--mamba-backend", kText, "triton", "Kernel library for state-space layers",
              "no state-space models"),
    no_effect("--mamba-ssu-algorithm", kText, "",
              "State-update algorithm of the FlashInfer backend", "no state-space models")
        .choices("auto|horizontal|simple|vertical")
        .nullable(),
    no_effect("--enable-mamba-cache-stochastic-rounding", kPair, "false",
              "Round state stochastically when stored in fp16", "no state-space models"),
    no_effect("--mamba-cache-philox-rounds", kInt, "0",
              "Random generator rounds for that rounding; 0 uses the kernel default",
              "no state-space models"),
};

}  // namespace

FlagGroup kernel_flags() { return {"kernel", "Kernels", kEngineVerbs, kKernel}; }
FlagGroup attention_flags() { return {"attention", "Attention", kEngineVerbs, kAttention}; }
FlagGroup compilation_flags() { return {"compilation", "Compilation", kEngineVerbs, kCompilation}; }
FlagGroup mamba_flags() { return {"mamba", "State-space layers", kEngineVerbs, kMamba}; }

}  // namespace moestro::config

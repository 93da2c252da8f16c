// The trained demo model in its bfloat16 form against its golden file: greedy continuations and
// last logits in float32. It is too large for this repository, so the tests skip in a plain clone.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "model/golden_file.h"
#include "model/model_runner.h"

namespace moestro::tests {
namespace {

constexpr float kRelativeTolerance = 2e-3f;  // of the largest golden logit of the row

TEST(DemoModel, GreedyContinuationsAndLastLogitsEqualTheGoldenFile) {
  const std::string directory =
      std::string(MOESTRO_SOURCE_DIR) + "/../shared/demo-model/checkpoint";
  if (!std::filesystem::exists(directory + "/golden.json"))
    GTEST_SKIP() << "the bfloat16 demo checkpoint is not in this tree (../shared/demo-model)";
  auto opened = ModelRunner::open(directory, {.workers = 2, .page_size = 64, .chunk = 256});
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  const auto runner = std::move(opened).value();
  const json::value golden = json::parse_file(directory + "/golden.json").value();
  const auto last = open_tensors(directory, "golden.safetensors").value();
  const json::array& prompts = golden.as_object().at("prompts").as_array();
  ASSERT_EQ(prompts.size(), 22u);
  for (size_t i = 0; i < prompts.size(); ++i) {
    const json::object& p = prompts[i].as_object();
    const std::vector<int32_t> ids = id_list(p.at("ids")), greedy = id_list(p.at("greedy"));
    const std::vector<float> want = float_tensor(*last, "logits_last." + std::to_string(i));
    const std::vector<float> all = runner->logits({ids})[0];
    ASSERT_EQ(want.size(), static_cast<size_t>(runner->vocab()));
    const float* got = all.data() + all.size() - want.size();
    float largest = 0, worst = 0;
    for (size_t j = 0; j < want.size(); ++j) {
      largest = std::max(largest, std::fabs(want[j]));
      worst = std::max(worst, std::fabs(want[j] - got[j]));
    }
    EXPECT_LE(worst, kRelativeTolerance * largest) << "prompt " << i;
    EXPECT_EQ(runner->greedy(ids, static_cast<int32_t>(greedy.size())), greedy) << "prompt " << i;
  }
}

}  // namespace
}  // namespace moestro::tests

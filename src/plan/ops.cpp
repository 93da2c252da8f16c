#include "plan/ops.h"

namespace moestro::plan {

void append_bucket(std::vector<BucketPlan>& buckets, BucketPlan next) {
  if (!buckets.empty()) {
    BucketPlan& last = buckets.back();
    const auto same = [](const Candidate& a, const Candidate& b) {
      return a.kernel == b.kernel && a.why_not == b.why_not && a.us == b.us;
    };
    if (std::equal(last.candidates.begin(), last.candidates.end(), next.candidates.begin(),
                   next.candidates.end(), same))
      return;
    last.last = next.first - 1;
  }
  buckets.push_back(std::move(next));
}

std::string reasons_text(const std::vector<Candidate>& candidates) {
  std::string text;
  for (const Candidate& c : candidates)
    text += format("{}{} ({})", text.empty() ? "" : ", ", c.kernel, c.why_not);
  return text;
}

}  // namespace moestro::plan

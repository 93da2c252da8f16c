// Rivals in turns: close ones get every round, beaten ones leave, time is kept.
#include "plan/turns.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace moestro::plan {
namespace {

using testing::DoubleNear;
using testing::ElementsAre;

// Rivals that only take time, of a clock of their own: seconds of each run, the last one for ever.
struct Race {
  std::vector<std::vector<double>> seconds;
  std::vector<size_t> runs = std::vector<size_t>(seconds.size());
  double now = 0;

  std::vector<double> go(TurnsOptions options = {.max_seconds = 1000}) {
    options.now = [this] { return now; };
    return time_in_turns(
        seconds.size(),
        [this](size_t i) {
          now += seconds[i][std::min(runs[i], seconds[i].size() - 1)];
          ++runs[i];
        },
        options);
  }
};

TEST(Turns, MediansOfNineRounds) {
  Race race{{{5, 1, 1, 1, 1, 1, 1, 1, 1}, {1.1, 1.1, 1.2, 1.2, 1.2, 1.2, 1.2, 9, 1.2}}};
  const std::vector<double> us = race.go();
  EXPECT_THAT(race.runs, ElementsAre(9, 9));
  EXPECT_THAT(us, ElementsAre(DoubleNear(1e6, 1), DoubleNear(1.2e6, 1)));
}

TEST(Turns, WhoIsClearlyBeatenLeavesAfterThreeRounds) {
  Race race{{{1}, {1.4}, {1.1}}};
  race.go();
  EXPECT_THAT(race.runs, ElementsAre(9, 3, 9));
}

TEST(Turns, OneSlowRoundIsForgiven) {
  Race race{{{1}, {20, 1, 1}}};
  race.go();
  EXPECT_THAT(race.runs, ElementsAre(9, 9));
}

TEST(Turns, AHopelessOneLeavesAfterTwo) {
  Race race{{{1}, {3}, {1}}};
  race.go();
  EXPECT_THAT(race.runs, ElementsAre(9, 2, 9));
}

TEST(Turns, OneThatIsLeftNeedsNoMoreRounds) {
  Race race{{{1}, {1.5}}};
  race.go();
  EXPECT_THAT(race.runs, ElementsAre(3, 3));
}

TEST(Turns, TimeIsKept) {
  Race race{{{1}, {1}}};
  race.go({.max_seconds = 9});
  EXPECT_THAT(race.runs, ElementsAre(5, 5));
  Race none{{{1}, {1}}};
  none.go({.max_seconds = 0});
  EXPECT_THAT(none.runs, ElementsAre(3, 3)) << "fewer say nothing";
}

}  // namespace
}  // namespace moestro::plan

// A generated explain command line: a config-only model in some quantization format, cut to a few
// layers, and a handful of flags, right and wrong, from a seed. For the property test.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace moestro::tests {

struct GeneratedLine {
  std::vector<std::string> words;
  std::string text() const;  // for failure messages; can be pasted
};
GeneratedLine generate_line(uint64_t seed);

// One that ought to run: a tiny model with made-up weights, flags that keep it small.
GeneratedLine generate_runnable_line(uint64_t seed);

}  // namespace moestro::tests

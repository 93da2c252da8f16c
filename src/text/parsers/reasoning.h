// Reasoning: the text between <think> and </think> before the answer, for every family that writes
// it so. What follows goes to the next machine. Private to text/parsers.
#pragma once
#include <memory>

#include "text/parsers/machine.h"

namespace moestro::text::parsers {

std::unique_ptr<Machine> make_reasoning(Tags& tags, const OutputParserOptions& options,
                                        std::unique_ptr<Machine> next);

}  // namespace moestro::text::parsers

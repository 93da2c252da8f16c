// parse(): template source to a Program, following jinja2.parser. Called once a template, by
// ChatTemplate::compile. Throws Failure; nesting and size are bounded, so no source can exhaust the
// stack.
#pragma once
#include <memory>
#include <string_view>

#include "text/jinja/ast.h"

namespace moestro::text::jinja {

constexpr size_t kMaxSourceBytes = 1 << 20;

std::unique_ptr<const Program> parse(std::string_view source);

}  // namespace moestro::text::jinja

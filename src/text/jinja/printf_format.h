// Python's two ways to format: "%s of %d" % (a, b), and "{} of {:>5}".format(a, b) with its format
// specs.
#pragma once
#include <string>
#include <string_view>

#include "text/jinja/callable.h"
#include "text/jinja/value.h"

namespace moestro::text::jinja {

std::string printf_format(Heap& heap, std::string_view pattern, const Value& args);
std::string str_format(Interpreter& in, std::string_view pattern, const Args& args);
std::string format_value(Heap& heap, const Value& v, std::string_view spec);

}  // namespace moestro::text::jinja

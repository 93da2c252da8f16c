// strftime in the C locale and UTC, as Python's datetime.strftime shows it on Linux.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace moestro::text::jinja {

std::string format_time(int64_t unix_seconds, std::string_view pattern);

}  // namespace moestro::text::jinja

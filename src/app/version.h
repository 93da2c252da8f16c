// The version of this build, as CMake's project() gives it.
#pragma once
#include <string_view>

namespace moestro::app {
inline constexpr std::string_view kVersion = MOESTRO_VERSION;
}  // namespace moestro::app

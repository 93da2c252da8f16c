// Limits that no flag sets: what one request may ask for. Those with a flag are in
// config::ServerOptions.
#pragma once
#include <cstddef>
#include <cstdint>

namespace moestro::server {

inline constexpr int64_t kMaxChoices = 128;    // "n"
inline constexpr size_t kMaxSequences = 1024;  // prompts times n
inline constexpr size_t kMaxStopStrings = 64;
inline constexpr size_t kMaxStopBytes = 4096;  // of one stop string
inline constexpr size_t kMaxStopTokenIds = 1024;
inline constexpr size_t kMaxLogitBias = 4096;
inline constexpr size_t kMaxRequestIdBytes = 128;
inline constexpr size_t kMaxTemplateBytes = 1 << 20;  // of a template inside a request
inline constexpr double kTemplateSeconds =
    10;  // wall clock of one render; its step budget ends it before

}  // namespace moestro::server

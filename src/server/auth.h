// API keys: "Authorization: Bearer <key>". Called on I/O threads.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace moestro::server {

// Takes time that depends on the length of `given` and of the keys, never on how much of them
// agrees.
bool equal_in_constant_time(std::string_view given, std::string_view key);
// True without keys. All keys are compared whichever matches.
bool authorized(std::string_view authorization_header, const std::vector<std::string>& keys);

}  // namespace moestro::server

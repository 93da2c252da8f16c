#include "server/auth.h"

#include <cstddef>

#include "base/strings.h"

namespace moestro::server {

bool equal_in_constant_time(std::string_view given, std::string_view key) {
  volatile unsigned char difference = given.size() == key.size() ? 0 : 1;
  for (size_t i = 0; i < given.size(); ++i) {
    const auto theirs = static_cast<unsigned char>(given[i]);
    const auto ours = key.empty() ? static_cast<unsigned char>(~theirs)
                                  : static_cast<unsigned char>(key[i % key.size()]);
    difference = static_cast<unsigned char>(difference | (theirs ^ ours));
  }
  return difference == 0 && !key.empty();
}

bool authorized(std::string_view header, const std::vector<std::string>& keys) {
  if (keys.empty()) return true;
  constexpr std::string_view kScheme = "bearer ";
  if (header.size() < kScheme.size() || lower(header.substr(0, kScheme.size())) != kScheme)
    return false;
  const std::string_view given = trim(header.substr(kScheme.size()));
  bool found = false;
  for (const std::string& key : keys) found |= equal_in_constant_time(given, key);
  return found;
}

}  // namespace moestro::server

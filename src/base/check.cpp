#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace moestro {

void check_failed(const char* file, int line, const char* condition, std::string_view message) {
  std::fprintf(stderr,
               "%s:%d: CHECK(%s) failed: %.*s\nThis is a bug in moestro; please report it with the "
               "lines above.\n",
               file, line, condition, static_cast<int>(message.size()), message.data());
  std::fflush(stderr);
  std::abort();
}

}  // namespace moestro

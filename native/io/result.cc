#include "io/result.h"

#include <cstring>

namespace arca {

std::string error_name(int code) {
  const char* name = strerrorname_np(code);
  return name != nullptr ? name : "E" + std::to_string(code);
}

std::string describe(const Error& error) {
  const char* text = strerrordesc_np(error.code);
  return std::string(error.operation) + ": " + (text != nullptr ? text : error_name(error.code));
}

}  // namespace arca

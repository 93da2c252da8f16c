#include "text/jinja/strftime.h"

#include <algorithm>
#include <chrono>

#include "base/format.h"

namespace moestro::text::jinja {
namespace {

constexpr std::string_view kMonths[] = {"January",   "February", "March",    "April",
                                        "May",       "June",     "July",     "August",
                                        "September", "October",  "November", "December"};
constexpr std::string_view kDays[] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                      "Thursday", "Friday", "Saturday"};

struct Moment {
  int64_t year;
  unsigned month, day, hour, minute, second, weekday,
      yearday;  // weekday: 0 is Sunday; yearday: from 0
  int64_t unix_seconds;
};

Moment moment_of(int64_t t) {
  using namespace std::chrono;
  // Years 1 to 9999, as datetime.
  t = std::clamp<int64_t>(t, -62135596800, 253402300799);
  const auto day = floor<days>(sys_seconds(seconds(t)));
  const year_month_day date(day);
  const auto rest = static_cast<unsigned>((sys_seconds(seconds(t)) - day).count());
  const auto first = sys_days(date.year() / January / 1);
  return {static_cast<int>(date.year()),
          static_cast<unsigned>(date.month()),
          static_cast<unsigned>(date.day()),
          rest / 3600,
          rest / 60 % 60,
          rest % 60,
          weekday(day).c_encoding(),
          static_cast<unsigned>((day - first).count()),
          t};
}

std::string number(int64_t n, size_t width, char flag, char pad = '0') {
  if (flag == '-') return format("{}", n);
  if (flag == '_') pad = ' ';
  if (flag == '0') pad = '0';
  std::string digits = format("{}", n);
  if (digits.size() < width) digits.insert(0, width - digits.size(), pad);
  return digits;
}

// ISO 8601 week and its year.
std::pair<int64_t, unsigned> iso_week(const Moment& m) {
  const unsigned monday_based = (m.weekday + 6) % 7;
  const int64_t week = (static_cast<int64_t>(m.yearday) - monday_based + 10) / 7;
  const auto weeks_in = [&](int64_t y) {
    const auto dec31 = [](int64_t v) { return (v + v / 4 - v / 100 + v / 400) % 7; };
    return dec31(y) == 4 || dec31(y - 1) == 3 ? 53 : 52;
  };
  if (week < 1) return {m.year - 1, static_cast<unsigned>(weeks_in(m.year - 1))};
  if (week > weeks_in(m.year)) return {m.year + 1, 1};
  return {m.year, static_cast<unsigned>(week)};
}

std::string directive(const Moment& m, char c, char flag) {
  const unsigned hour12 = m.hour % 12 == 0 ? 12 : m.hour % 12;
  switch (c) {
    case 'a':
      return std::string(kDays[m.weekday].substr(0, 3));
    case 'A':
      return std::string(kDays[m.weekday]);
    case 'b':
    case 'h':
      return std::string(kMonths[m.month - 1].substr(0, 3));
    case 'B':
      return std::string(kMonths[m.month - 1]);
    case 'c':
      return format_time(m.unix_seconds, "%a %b %e %H:%M:%S %Y");
    case 'C':
      return number(m.year / 100, 2, flag);
    case 'd':
      return number(m.day, 2, flag);
    case 'D':
    case 'x':
      return format_time(m.unix_seconds, "%m/%d/%y");
    case 'e':
      return number(m.day, 2, flag, ' ');
    case 'f':
      return "000000";
    case 'F':
      return format_time(m.unix_seconds, "%Y-%m-%d");
    case 'G':
      return format("{}", iso_week(m).first);
    case 'g':
      return number(iso_week(m).first % 100, 2, flag);
    case 'H':
      return number(m.hour, 2, flag);
    case 'I':
      return number(hour12, 2, flag);
    case 'j':
      return number(m.yearday + 1, 3, flag);
    case 'k':
      return number(m.hour, 2, flag, ' ');
    case 'l':
      return number(hour12, 2, flag, ' ');
    case 'm':
      return number(m.month, 2, flag);
    case 'M':
      return number(m.minute, 2, flag);
    case 'n':
      return "\n";
    case 'p':
      return m.hour < 12 ? "AM" : "PM";
    case 'P':
      return m.hour < 12 ? "am" : "pm";
    case 'r':
      return format_time(m.unix_seconds, "%I:%M:%S %p");
    case 'R':
      return format_time(m.unix_seconds, "%H:%M");
    case 's':
      return format("{}", m.unix_seconds);
    case 'S':
      return number(m.second, 2, flag);
    case 't':
      return "\t";
    case 'T':
    case 'X':
      return format_time(m.unix_seconds, "%H:%M:%S");
    case 'u':
      return format("{}", m.weekday == 0 ? 7 : m.weekday);
    case 'U':
      return number((m.yearday + 7 - m.weekday) / 7, 2, flag);
    case 'V':
      return number(iso_week(m).second, 2, flag);
    case 'w':
      return format("{}", m.weekday);
    case 'W':
      return number((m.yearday + 7 - (m.weekday + 6) % 7) / 7, 2, flag);
    case 'y':
      return number(m.year % 100, 2, flag);
    case 'Y':
      return format("{}", m.year);
    case 'z':
    case 'Z':
      return "";  // a naive datetime has no zone
    case '%':
      return "%";
    default:
      return flag ? std::string("%") + flag + c : std::string("%") + c;
  }
}

}  // namespace

std::string format_time(int64_t unix_seconds, std::string_view pattern) {
  const Moment m = moment_of(unix_seconds);
  std::string out;
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] != '%' || i + 1 == pattern.size()) {
      out += pattern[i];
      continue;
    }
    char flag = '\0';
    char c = pattern[++i];
    if ((c == '-' || c == '_' || c == '0' || c == '^') && i + 1 < pattern.size()) {
      flag = c;
      c = pattern[++i];
    }
    std::string text = directive(m, c, flag == '^' ? '\0' : flag);
    if (flag == '^')
      std::transform(text.begin(), text.end(), text.begin(),
                     [](char x) { return static_cast<char>(x >= 'a' && x <= 'z' ? x - 32 : x); });
    out += text;
  }
  return out;
}

}  // namespace moestro::text::jinja

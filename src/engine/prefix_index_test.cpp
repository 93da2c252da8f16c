// The index of prefixes alone, then the cache with random sequences against a plain model of it:
// the same hits, the same free pages, the same pages forgotten first.
#include "engine/prefix_index.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <random>
#include <utility>

#include "engine/kv_cache.h"

namespace moestro::engine {
namespace {

constexpr int32_t kNone = PrefixIndex::kNone;
using Tokens = std::vector<int32_t>;

PrefixSalt salt(const char* text) { return std::make_shared<const std::string>(text); }

TEST(PrefixChain, KeysStandForTheWholeBeginningAndTheSalt) {
  const auto keys = [](const Tokens& tokens, PrefixSalt s, uint64_t seed = 5) {
    PrefixChain chain(seed, std::move(s), 3, 8);
    chain.extend(tokens);
    std::vector<uint64_t> all;
    for (int32_t i = 0; i < chain.size(); ++i) all.push_back(chain.key(i));
    return all;
  };
  const auto base = keys({1, 2, 3, 4, 5, 6, 7, 8}, nullptr);
  ASSERT_EQ(base.size(), 2u);  // full pages only
  EXPECT_EQ(base, keys({1, 2, 3, 4, 5, 6}, nullptr));
  EXPECT_EQ(base[0], keys({1, 2, 3, 4, 5, 7}, nullptr)[0]);
  EXPECT_NE(base[1], keys({1, 2, 3, 4, 5, 7}, nullptr)[1]);
  EXPECT_NE(base[1], keys({9, 2, 3, 4, 5, 6}, nullptr)[1]) << "the pages before count";
  EXPECT_NE(base[0], keys({1, 2, 3}, salt("a"))[0]);
  EXPECT_NE(keys({1, 2, 3}, salt("b"))[0], keys({1, 2, 3}, salt("a"))[0]);
  EXPECT_NE(base[0], keys({1, 2, 3}, nullptr, 6)[0]);

  PrefixChain grown(5, nullptr, 3, 8);
  Tokens tokens;
  for (int32_t t = 1; t <= 8; ++t) {
    tokens.push_back(t);
    grown.extend(tokens);
  }
  EXPECT_EQ(grown.key(1), base[1]);
}

TEST(PrefixIndex, EqualKeysDoNotMakeDifferentPagesEqual) {
  PrefixIndex index(8, 2, 0);
  constexpr uint64_t kKey = 77;  // of all of them, as if every hash collided
  const Tokens a{1, 2}, b{1, 3}, c{2, 1};
  index.insert(4, kKey, kNone, a, nullptr);
  index.insert(2, kKey, kNone, b, nullptr);
  index.insert(3, kKey, kNone, a, salt("x"));
  index.insert(5, kKey, 4, a, nullptr);
  index.insert(6, kKey, 2, a, nullptr);
  EXPECT_EQ(index.find(kKey, kNone, a, nullptr), 4);
  EXPECT_EQ(index.find(kKey, kNone, b, nullptr), 2);
  EXPECT_EQ(index.find(kKey, kNone, c, nullptr), kNone);
  EXPECT_EQ(index.find(kKey, kNone, a, salt("x")), 3) << "another object, the same text";
  EXPECT_EQ(index.find(kKey, kNone, a, salt("y")), kNone);
  EXPECT_EQ(index.find(kKey, 4, a, nullptr), 5);
  EXPECT_EQ(index.find(kKey, 2, a, nullptr), 6);
  EXPECT_EQ(index.find(kKey, 3, a, nullptr), kNone);
  EXPECT_EQ(index.find(kKey + 8, kNone, a, nullptr), kNone);
  EXPECT_EQ(index.num_children(4), 1);
  index.erase(5);
  EXPECT_EQ(index.num_children(4), 0);
  EXPECT_EQ(index.find(kKey, 4, a, nullptr), kNone);
  EXPECT_EQ(index.find(kKey, 2, a, nullptr), 6);
  index.erase(7);  // without a name
  EXPECT_EQ(index.size(), 4);
  index.clear();
  EXPECT_EQ(index.size(), 0);
  EXPECT_EQ(index.find(kKey, kNone, a, nullptr), kNone);
  index.insert(4, kKey, kNone, c, nullptr);
  EXPECT_EQ(index.find(kKey, kNone, c, nullptr), 4);
}

TEST(PrefixIndexDeathTest, ABeginningIsNotForgottenBeforeItsEnd) {
  PrefixIndex index(4, 1, 0);
  const Tokens a{1};
  index.insert(0, 1, kNone, a, nullptr);
  index.insert(1, 2, 0, a, nullptr);
  EXPECT_DEATH(index.erase(0), "before its beginning");
  EXPECT_DEATH(index.insert(2, 3, 3, a, nullptr), "needs the one before");
  EXPECT_DEATH(index.insert(1, 3, 0, a, nullptr), "two prefixes");
}

// The cache said plainly: which beginnings are there, how many hold each, in which order those
// that nobody holds are forgotten, and how many pages have no name.
class PlainCache {
 public:
  using Prefix = std::pair<std::string, Tokens>;  // salt, tokens
  PlainCache(int32_t num_pages, int32_t page_size) : free_(num_pages), page_size_(page_size) {}

  Prefix prefix(const std::string& s, const Tokens& tokens, int32_t pages) const {
    return {s, Tokens(tokens.begin(), tokens.begin() + int64_t{pages} * page_size_)};
  }
  bool known(const Prefix& p) const { return held_.contains(p) || waiting(p) != forgotten_.end(); }
  int32_t num_free() const { return free_ + static_cast<int32_t>(forgotten_.size()); }
  bool held(const Prefix& p) const { return held_.contains(p); }
  void hold(const Prefix& p) {
    if (const auto at = waiting(p); at != forgotten_.end()) forgotten_.erase(at);
    ++held_[p];
  }
  void take_page() {
    if (free_ > 0)
      --free_;
    else
      forgotten_.pop_front();
  }
  void publish(const Prefix& p) {  // a page taken before gets this name, or is given back for it
    if (known(p)) ++free_;
    hold(p);
  }
  void leave(const Prefix& p) {
    if (--held_.at(p) > 0) return;
    held_.erase(p);
    forgotten_.push_back(p);
  }
  void give_back_page() { ++free_; }

 private:
  std::deque<Prefix>::const_iterator waiting(const Prefix& p) const {
    return std::find(forgotten_.begin(), forgotten_.end(), p);
  }
  std::map<Prefix, int> held_;
  std::deque<Prefix> forgotten_;  // the next to be forgotten first
  int32_t free_;                  // pages that nobody holds and that have no name
  const int32_t page_size_;
};

struct Fixture {
  struct User {
    Tokens tokens;
    std::string salt_text;
    PrefixChain chain;
    std::vector<int32_t> pages;
    int32_t num_computed = 0, num_published = 0;
  };
  static constexpr int32_t kPage = 3, kPages = 40, kLongest = 36;
  std::mt19937 rng;
  KvCache kv;
  PlainCache plain{kPages, kPage};
  std::vector<User> users;
  int64_t hits = 0, forgotten = 0;

  explicit Fixture(uint32_t seed) : rng(seed), kv(make()) {}
  static KvCache make() {
    const std::vector<models::LayerKvWidths> widths{{1, 0, 0}};
    return KvCache::create(widths, DType::kF32, kPage,
                           KvCache::page_bytes(widths, DType::kF32, kPage) * kPages, kPages, 9)
        .value();
  }
  uint32_t below(size_t n) { return static_cast<uint32_t>(rng() % n); }

  void start() {
    User u;
    const size_t length = 1 + below(kLongest);
    // Few different beginnings: a first token says how the text goes on for a while.
    const int32_t kind = static_cast<int32_t>(below(3));
    const size_t common = below(kLongest);
    for (size_t i = 0; i < length; ++i)
      u.tokens.push_back(i < common ? kind : static_cast<int32_t>(below(2)));
    if (below(4) == 0) u.salt_text = "salt";
    u.chain = kv.make_chain(u.salt_text.empty() ? nullptr : salt(u.salt_text.c_str()), kLongest);
    u.chain.extend(u.tokens);
    const auto most = static_cast<int32_t>(u.tokens.size()) - 1;
    const PrefixHit hit = kv.find_prefix(u.chain, u.tokens, most);
    int32_t pages = 0, num_free = 0;
    while ((pages + 1) * kPage <= most &&
           plain.known(plain.prefix(u.salt_text, u.tokens, pages + 1))) {
      ++pages;
      if (!plain.held(plain.prefix(u.salt_text, u.tokens, pages))) ++num_free;
    }
    ASSERT_EQ(hit.num_pages, pages);
    ASSERT_EQ(hit.num_free, num_free);
    kv.share_prefix(u.chain, u.tokens, hit.num_pages, u.pages);
    for (int32_t i = 1; i <= pages; ++i) plain.hold(plain.prefix(u.salt_text, u.tokens, i));
    u.num_published = pages;
    u.num_computed = pages * kPage;
    hits += pages;
    users.push_back(std::move(u));
  }
  void advance(User& u) {
    const auto left = static_cast<int32_t>(u.tokens.size()) - u.num_computed;
    if (left == 0) return;
    const int32_t to = u.num_computed + 1 + static_cast<int32_t>(below(static_cast<size_t>(left)));
    const int32_t wanted = kv.pages_for(to) - static_cast<int32_t>(u.pages.size());
    if (wanted > kv.pool().num_free()) return;
    const int32_t before = kv.prefixes().size();
    kv.grow(u.pages, to);
    forgotten += before - kv.prefixes().size();
    for (int32_t i = 0; i < wanted; ++i) plain.take_page();
    u.num_computed = to;
    for (int32_t i = u.num_published + 1; i <= to / kPage; ++i)
      plain.publish(plain.prefix(u.salt_text, u.tokens, i));
    u.num_published = kv.publish(u.chain, u.tokens, to, u.num_published, u.pages);
    ASSERT_EQ(u.num_published, to / kPage);
  }
  void end(size_t i) {
    User& u = users[i];
    const auto pages = static_cast<int32_t>(u.pages.size());
    kv.release(u.pages);
    for (int32_t page = pages; page > 0; --page) {
      if (page <= u.num_published)
        plain.leave(plain.prefix(u.salt_text, u.tokens, page));
      else
        plain.give_back_page();
    }
    users.erase(users.begin() + static_cast<std::ptrdiff_t>(i));
  }
  void check() const {
    ASSERT_EQ(kv.pool().num_free(), plain.num_free());
    std::map<int32_t, int32_t> holders;
    for (const User& u : users)
      for (const int32_t page : u.pages) ++holders[page];
    for (int32_t page = 0; page < kPages; ++page)
      ASSERT_EQ(kv.pool().references(page), holders.contains(page) ? holders.at(page) : 0);
  }
};

TEST(KvCachePrefixes, RandomUseAgreesWithAPlainModel) {
  int64_t hits = 0, forgotten = 0;
  for (uint32_t seed = 0; seed < 60; ++seed) {
    Fixture f(seed);
    for (int op = 0; op < 400; ++op) {
      const uint32_t kind = f.below(10);
      if (f.users.empty() || (kind < 2 && f.users.size() < 8))
        f.start();
      else if (kind < 8)
        f.advance(f.users[f.below(f.users.size())]);
      else
        f.end(f.below(f.users.size()));
      ASSERT_FALSE(HasFatalFailure()) << "seed " << seed << ", operation " << op;
      f.check();
      ASSERT_FALSE(HasFatalFailure()) << "seed " << seed << ", operation " << op;
    }
    while (!f.users.empty()) f.end(0);
    ASSERT_EQ(f.kv.pool().num_free(), Fixture::kPages);
    hits += f.hits;
    forgotten += f.forgotten;
  }
  EXPECT_GT(hits, 1000);
  EXPECT_GT(forgotten, 1000);
}

TEST(KvCachePrefixes, EndsAreForgottenBeforeBeginnings) {
  const std::vector<models::LayerKvWidths> widths{{1, 0, 0}};
  const int64_t bytes = KvCache::page_bytes(widths, DType::kF32, 2) * 4;
  KvCache kv = KvCache::create(widths, DType::kF32, 2, bytes, 4, 1).value();
  const Tokens tokens{1, 2, 3, 4, 5, 6, 7};
  PrefixChain chain = kv.make_chain(nullptr, 8);
  chain.extend(tokens);
  std::vector<int32_t> pages, other;
  kv.grow(pages, 7);
  EXPECT_EQ(kv.publish(chain, tokens, 7, 0, pages), 3);
  kv.release(pages);
  EXPECT_EQ(kv.pool().num_free(), 4);
  EXPECT_EQ(kv.find_prefix(chain, tokens, 7).num_pages, 3);
  EXPECT_EQ(kv.find_prefix(chain, tokens, 5).num_pages, 2);
  for (const int32_t left : {3, 2, 1, 0}) {  // the page without a name goes first, then the ends
    kv.grow(other, static_cast<int32_t>(other.size() + 1) * 2);
    EXPECT_EQ(kv.find_prefix(chain, tokens, 7).num_pages, left);
  }
}

TEST(KvCachePrefixes, OffMeansNothingIsFound) {
  const std::vector<models::LayerKvWidths> widths{{1, 0, 0}};
  KvCache kv = KvCache::create(widths, DType::kF32, 2, 1 << 12, 4, {}).value();
  const Tokens tokens{1, 2, 3, 4};
  PrefixChain chain = kv.make_chain(nullptr, 8);
  chain.extend(tokens);
  EXPECT_EQ(chain.size(), 0);
  std::vector<int32_t> pages;
  kv.grow(pages, 4);
  EXPECT_EQ(kv.publish(chain, tokens, 4, 0, pages), 0);
  EXPECT_EQ(kv.find_prefix(chain, tokens, 4).num_pages, 0);
  kv.release(pages);
}

}  // namespace
}  // namespace moestro::engine

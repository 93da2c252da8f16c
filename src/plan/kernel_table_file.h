// The file that keeps a KernelTable between starts. Its name and its first lines hold what the
// times depend on: processor, instruction sets and build of the program; another one's file is
// never used. No environment variable is read: the place is the user's home directory as the
// system's user database has it, or what --kernel-table says. Main thread.
#pragma once
#include <string>

#include "base/status.h"
#include "plan/kernel_table.h"
#include "platform/cpu_features.h"

namespace moestro::plan {

struct TableIdentity {
  std::string cpu, isa, build;

  static TableIdentity of_this_machine();
  bool operator==(const TableIdentity&) const = default;
};

// <home>/.cache/moestro, where files go that a later start can do without; empty: this user has no
// home.
std::string user_cache_directory();

// <home>/.cache/moestro/kernels-<hash of the identity>.json; empty: this user has no home.
std::string default_table_path(const TableIdentity& identity);

// No such file, or one of another identity: an empty table. Damaged: kDataLoss that says where.
Result<KernelTable> read_table(const std::string& path, const TableIdentity& identity);
// Creates the directories above it; replaces the file in one step. kUnavailable with the reason.
Status write_table(const std::string& path, const TableIdentity& identity,
                   const KernelTable& table);

}  // namespace moestro::plan

//! Limits memory arenas where the address space is limited (`ulimit -v`, `prlimit --as`).
//!
//! The allocator of glibc reserves 64 MiB of address space for each thread, however little of it is
//! used. Under a limit of 256 MiB that leaves nothing for the work. The number of these arenas can
//! only be set before a program starts, so it starts once more.

/// Starts the program again with one arena if its address space is limited and the variable is not
/// set.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn economise() {
    use rustix::process::{Resource, getrlimit};
    use std::os::unix::process::CommandExt;

    /// With at least this much address space, arenas do no harm.
    const AMPLE_BYTES: u64 = 4 << 30;
    const VARIABLE: &str = "MALLOC_ARENA_MAX";
    let is_limited = getrlimit(Resource::As).current.is_some_and(|limit| limit < AMPLE_BYTES);
    if !is_limited || std::env::var_os(VARIABLE).is_some() {
        return;
    }
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    // Returns only if it fails; then the program continues as it is.
    let _ = std::process::Command::new("/proc/self/exe").arg0(name).args(arguments).env(VARIABLE, "1").exec();
}

/// Does nothing: other allocators reserve no more than they use.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn economise() {}

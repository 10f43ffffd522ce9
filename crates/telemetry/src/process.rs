//! What the system says of this process: `proc(5)`. What it does not say stays as it was.

use std::fs;
use std::time::Duration;

use rustix::param::{clock_ticks_per_second, page_size};

use crate::table::Process;

/// The numbers of `/proc/self/stat`, in its own units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Stat {
    /// Ticks in the program and in the system, of all threads.
    cpu_ticks: u64,
    /// When it started, in ticks since the machine did.
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

/// Sets the metrics of the process.
pub(crate) fn measure(process: &Process) {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let ticks = clock_ticks_per_second().max(1) as f64;
    if let Some(stat) = Stat::read(&read("/proc/self/stat")) {
        let cpu = Duration::from_secs_f64(stat.cpu_ticks as f64 / ticks);
        process.cpu.set((), cpu);
        process.virtual_memory.set((), stat.virtual_bytes as f64);
        let resident = stat.resident_pages as f64 * page_size() as f64;
        process.resident_memory.set((), resident);
        if let Some(boot) = boot_time(&read("/proc/stat")) {
            let start = boot as f64 + stat.start_ticks as f64 / ticks;
            process.start_time.set((), start);
        }
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // The listing itself is one of them.
        process
            .open_fds
            .set((), open.count().saturating_sub(1) as f64);
    }
    if let Some(most) = max_open_files(&read("/proc/self/limits")) {
        process.max_fds.set((), most);
    }
}

impl Stat {
    fn read(stat: &str) -> Option<Self> {
        // The name in parentheses may hold anything; the fields after it begin with the third.
        let (_, after) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = after.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: field(14)? + field(15)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

/// Returns when the machine started, in seconds since 1970.
fn boot_time(stat: &str) -> Option<u64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

fn max_open_files(limits: &str) -> Option<f64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(f64::INFINITY),
        most => most.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Stat, boot_time, max_open_files};

    #[test]
    fn a_name_with_blanks_and_parentheses_shifts_no_field() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 10 0 0 0 250 50 0 0 20 0 3 0 900 4096 25 0";
        let expected = Stat {
            cpu_ticks: 300,
            start_ticks: 900,
            virtual_bytes: 4096,
            resident_pages: 25,
        };
        assert_eq!(Stat::read(stat), Some(expected));
        assert_eq!(Stat::read("7 (a) S 1"), None);
    }

    #[test]
    fn reads_the_other_files() {
        assert_eq!(
            boot_time("cpu 1 2\nbtime 1700000000\n"),
            Some(1_700_000_000)
        );
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files  1024  4096  files\n";
        assert_eq!(max_open_files(limits), Some(1024.0));
        let limits = "Max open files            unlimited            unlimited            files";
        assert_eq!(max_open_files(limits), Some(f64::INFINITY));
        assert_eq!(max_open_files(""), None);
    }
}

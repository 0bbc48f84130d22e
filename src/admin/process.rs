//! What the process takes, under the names that Prometheus' own libraries use. Where the system does
//! not tell, there is nothing.

use std::fs;
use std::sync::LazyLock;
use std::time::UNIX_EPOCH;

use super::exposition::{Exposition, Kind};
use crate::clock;

/// When the machine began, in seconds since 1970. It is asked once, as a process that began at another time
/// would be another one; and not of `/proc/stat`, which services do not see whose `/proc` has processes
/// alone (`ProcSubset=pid`).
static BOOT: LazyLock<f64> = LazyLock::new(|| {
    clock::machine_began().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
});

/// What `/proc` says of this process.
struct Process {
    cpu_seconds: f64,
    start_seconds: f64,
    resident: u64,
    virtual_memory: u64,
    threads: u64,
}

pub(super) fn write(to: &mut Exposition) {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let (ticks, page) = (rustix::param::clock_ticks_per_second(), rustix::param::page_size());
    let told = Process::parse(&stat, *BOOT, ticks, page as u64);
    let mut figure = |name, kind, help, value: Option<f64>| {
        to.family(name, kind, help);
        if let Some(value) = value {
            to.sample(&[], value);
        }
    };
    let of = |value: fn(&Process) -> f64| told.as_ref().map(value);
    let cpu = "Processor time, of the user and of the system.";
    figure("process_cpu_seconds_total", Kind::Counter, cpu, of(|it| it.cpu_seconds));
    let since = "When the process began, in seconds since 1970.";
    figure("process_start_time_seconds", Kind::Gauge, since, of(|it| it.start_seconds));
    let resident = "Memory that it has.";
    figure("process_resident_memory_bytes", Kind::Gauge, resident, of(|it| float(it.resident)));
    let asked = "Memory that it has asked for.";
    figure("process_virtual_memory_bytes", Kind::Gauge, asked, of(|it| float(it.virtual_memory)));
    figure("process_threads", Kind::Gauge, "Its threads.", of(|it| float(it.threads)));
    // The folder that is being read is one of them.
    let open = fs::read_dir("/proc/self/fd").ok().map(|all| float(all.count() as u64) - 1.0);
    figure("process_open_fds", Kind::Gauge, "Files and connections that it has open.", open);
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let most = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let most = most.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    figure("process_max_fds", Kind::Gauge, "How many it may have open.", most.map(float));
}

#[expect(clippy::cast_precision_loss, reason = "a metric is a number of 52 bits")]
fn float(value: u64) -> f64 {
    value as f64
}

impl Process {
    /// `stat` is proc(5)'s `/proc/PID/stat`; `boot` is when the machine began, in seconds since 1970.
    fn parse(stat: &str, boot: f64, ticks: u64, page: u64) -> Option<Self> {
        // The name of the program may have spaces and brackets of its own.
        let (_, rest) = stat.rsplit_once(") ")?;
        let words: Vec<&str> = rest.split_whitespace().collect();
        // Counted from 3, the first after the name.
        let word = |number: usize| words.get(number - 3)?.parse::<u64>().ok();
        let seconds = |count: u64| float(count) / float(ticks.max(1));
        Some(Self {
            cpu_seconds: seconds(word(14)?.saturating_add(word(15)?)),
            threads: word(20)?,
            start_seconds: boot + seconds(word(22)?),
            virtual_memory: word(23)?,
            resident: word(24)?.saturating_mul(page),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_is_read() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 5 0 1000 4096 3 18446744073709551615 1";
        let told = Process::parse(stat, 1_700_000_000.0, 100, 4096).unwrap();
        assert!((told.cpu_seconds - 2.0).abs() < 1e-9);
        assert!((told.start_seconds - 1_700_000_010.0).abs() < 1e-6);
        assert_eq!((told.threads, told.virtual_memory, told.resident), (5, 4096, 3 * 4096));
        for stat in ["", "1 (a) S 1 2"] {
            assert!(Process::parse(stat, 1.0, 100, 4096).is_none());
        }
    }

    #[test]
    fn this_process_began_once_and_not_long_ago() {
        let began = || {
            let stat = fs::read_to_string("/proc/self/stat").unwrap();
            let ticks = rustix::param::clock_ticks_per_second();
            Process::parse(&stat, *BOOT, ticks, 4096).unwrap().start_seconds
        };
        let now = clock::Clock::real().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        let told = began();
        assert!((now - 3600.0..now + 1.0).contains(&told), "{told} at {now}");
        assert_eq!(told.to_bits(), began().to_bits());
    }
}

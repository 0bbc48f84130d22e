//! `[cache.l2]` with a folder instead of Redis.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Compression;
use super::fault::Wrong;
use super::reader::Table;
use super::sections::{DAY, L2_SIZE, MILLISECOND, SECOND};
use super::{shown, value};

/// `[cache.l2]` where it has `disk`.
#[derive(Clone, Debug)]
pub struct Disk {
    /// `disk`: the folder; relative ones are looked for from the configuration's folder.
    pub folder: PathBuf,
    /// `capacity` in octets, default 1 GiB, 16 MiB to 1024 GiB.
    pub capacity: u64,
    /// `ttl`, default 1 h, 1 ms to 365 days: the disk keeps a response no longer than this.
    pub ttl: Duration,
    /// `timeout` of the look-ups of one request, default 50 ms, 1 ms to 10 s.
    pub timeout: Duration,
    /// `max_size` of a response's fields and content in octets, default 32 MiB, 1 KiB to 32 MiB: a
    /// larger one is not written.
    pub max_size: usize,
    /// `compression`, default `none`.
    pub compression: Compression,
}

impl Disk {
    /// With every default but the folder.
    pub fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            capacity: 1 << 30,
            ttl: Duration::from_hours(1),
            timeout: Duration::from_millis(50),
            max_size: 32 << 20,
            compression: Compression::default(),
        }
    }

    /// Which of the keys of `[cache.l2]` differ.
    pub(super) fn differences(&self, other: &Self) -> impl Iterator<Item = &'static str> {
        let differ = [
            ("[cache.l2] disk", self.folder != other.folder),
            ("[cache.l2] capacity", self.capacity != other.capacity),
            ("[cache.l2] ttl", self.ttl != other.ttl),
            ("[cache.l2] timeout", self.timeout != other.timeout),
            ("[cache.l2] max_size", self.max_size != other.max_size),
            ("[cache.l2] compression", self.compression != other.compression),
        ];
        differ.into_iter().filter_map(|(key, differs)| differs.then_some(key))
    }
}

/// What `[cache.l2]` says, where it is about a folder. The table itself, where it is not.
pub(super) fn read<'a>(
    mut table: Table<'a>,
    folder: &Path,
) -> ControlFlow<Option<Disk>, Table<'a>> {
    let Some(disk) = table.take("disk") else { return ControlFlow::Continue(table) };
    let path = disk.read(|text| path(text, folder));
    if path == Some(None) && table.has("redis") {
        return ControlFlow::Continue(table);
    }
    let redis = table.take("redis").map(|redis| redis.secret(shown::url));
    if redis.is_some_and(|redis| redis.text().is_none_or(|text| !text.is_empty())) {
        let hint =
            "share what is stored by Redis, or keep it on this machine's disk: leave the other out";
        table.report(disk.place, "both `redis` and `disk`", Some(hint.to_owned()));
    }
    let default = Disk::new(path.flatten().unwrap_or_default());
    let disk = Disk {
        capacity: table.size("capacity", default.capacity, 16 << 20..=1 << 40),
        ttl: table.duration("ttl", default.ttl, MILLISECOND..=365 * DAY),
        timeout: table.duration("timeout", default.timeout, MILLISECOND..=10 * SECOND),
        max_size: table.memory("max_size", default.max_size, L2_SIZE),
        compression: table.read("compression", default.compression, value::compression),
        folder: default.folder,
    };
    table.finish();
    ControlFlow::Break((!disk.folder.as_os_str().is_empty()).then_some(disk))
}

fn path(text: &str, folder: &Path) -> Result<Option<PathBuf>, Wrong> {
    if text.contains('\0') {
        return Err(Wrong::new("is not a path").with_hint("write the path of a folder"));
    }
    Ok((!text.is_empty()).then(|| folder.join(text)))
}

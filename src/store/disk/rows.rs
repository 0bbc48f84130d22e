//! What one write makes of the database's rows: a frame under a key, and where there are variants or
//! rules, those that lie there with one more.

use std::time::SystemTime;

use crate::store::codec::{self, Frame};
use crate::store::disk::Disk;
use crate::store::disk::database::Change;
use crate::store::disk::queue::{What, Write};
use crate::store::search::SearchRules;
use crate::store::second::{Entry, end, millis, useful};
use crate::store::variants::Variants;
use crate::stored::CacheKey;

impl Disk {
    /// Writes one response or rule, and answers how long its frame is.
    pub(super) fn place(
        &self,
        change: &mut Change<'_>,
        write: &Write,
    ) -> Result<usize, redb::Error> {
        let Write { key, what, now, .. } = write;
        let whole = end(*now, self.ttl);
        let Entry { stored, variant, stale } = match what {
            What::Response(entry) => entry,
            What::Rule(rule) => {
                let mut rules = match self.lies(change, key, *now)? {
                    Some(Frame::Rules(rules)) => rules,
                    _ => SearchRules::default(),
                };
                rules.add(rule.clone());
                // As long as any response that it leads to.
                return put(change, key, whole, codec::encode_rules(key, &rules).as_deref());
            }
        };
        let under = variant.as_ref().map_or(key, |(variant, _)| &variant.known.key);
        let end = end(*now, useful(&stored.freshness, *stale, *now, self.ttl));
        let frame = codec::encode(under, stored, end, self.compression);
        let octets = put(change, under, end, frame.as_deref())?;
        let Some((variant, bound)) = variant else { return Ok(octets) };
        let mut variants = match self.lies(change, key, *now)? {
            Some(Frame::Variants(variants)) => variants,
            _ => Variants::default(),
        };
        for gone in variants.add(variant.clone(), *bound) {
            change.remove(&gone)?;
        }
        put(change, key, whole, codec::encode_variants(key, &variants).as_deref())?;
        Ok(octets)
    }

    fn lies(
        &self,
        change: &Change<'_>,
        key: &CacheKey,
        now: SystemTime,
    ) -> Result<Option<Frame>, redb::Error> {
        let row = change.row(key)?.filter(|row| row.end > millis(now));
        Ok(row.and_then(|row| codec::decode(key, &row.frame, self.max_size)))
    }
}

fn put(
    change: &mut Change<'_>,
    key: &CacheKey,
    end: u64,
    frame: Option<&[u8]>,
) -> Result<usize, redb::Error> {
    let Some(frame) = frame else { return Ok(0) };
    change.put(key, end, frame)?;
    Ok(frame.len())
}

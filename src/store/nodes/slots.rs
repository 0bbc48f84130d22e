//! A cluster's hash slots: which one a key lies in, and which node has it.

use redis::{FromRedisValue, Value};

use crate::config::Node;

/// How many there are.
const SLOTS: u16 = 1 << 14;

/// Which node has which slots, in the order of the slots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Slots(Vec<Range>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Range {
    first: u16,
    last: u16,
    node: Node,
}

impl Slots {
    /// What `CLUSTER SLOTS` answers: for each range its ends, its master and the replicas, which are
    /// passed over. A node that does not say where it is, is where it was `asked`.
    pub(super) fn parse(answer: &Value, asked: &Node) -> Option<Self> {
        let Value::Array(answer) = answer else { return None };
        let mut ranges = Vec::new();
        for range in answer {
            let Value::Array(range) = range else { return None };
            let [first, last, master, ..] = &**range else { return None };
            let number = |value: &Value| match value {
                Value::Int(number) => u16::try_from(*number).ok(),
                _ => None,
            };
            let slot = |value| number(value).filter(|number| *number < SLOTS);
            let Value::Array(master) = master else { return None };
            let [host, port, ..] = &**master else { return None };
            let host = <Option<String>>::from_redis_value_ref(host).ok()?;
            // A node that does not know its name says `?`.
            let host = host.filter(|host| !matches!(&**host, "" | "?"));
            let host = host.unwrap_or_else(|| asked.host.clone());
            let node = Node { host, port: number(port)? };
            ranges.push(Range { first: slot(first)?, last: slot(last)?, node });
        }
        ranges.sort_by_key(|range| range.first);
        Some(Self(ranges))
    }

    /// Whether it is of no use.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The node that has a key; none if nobody has its slot.
    pub(super) fn node(&self, key: &str) -> Option<&Node> {
        let slot = slot(key);
        let at = self.0.partition_point(|range| range.last < slot);
        self.0.get(at).filter(|range| range.first <= slot).map(|range| &range.node)
    }

    /// Every node that has slots. One with several ranges comes several times.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.0.iter().map(|range| &range.node)
    }
}

/// The slot of a key: of what stands between the first `{` and the next `}`, if there is something.
pub(super) fn slot(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    crc16(tag.filter(|tag| !tag.is_empty()).unwrap_or(key).as_bytes()) % SLOTS
}

/// CRC-16/XMODEM, as the specification of Redis Cluster wants it.
fn crc16(octets: &[u8]) -> u16 {
    octets.iter().fold(0, |crc, octet| {
        (0..8).fold(crc ^ (u16::from(*octet) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_of_keys() {
        // The specification's own check value.
        assert_eq!(crc16(b"123456789"), 0x31c3);
        for (key, as_good_as) in [
            ("{user1000}.following", "user1000"),
            ("foo{}{bar}", "foo{}{bar}"),
            ("foo{{bar}}zap", "{bar"),
            ("foo{bar}{zap}", "bar"),
            ("shop:{shop:log}:id", "shop:log"),
            ("foo}{bar", "foo}{bar"),
        ] {
            assert_eq!(slot(key), crc16(as_good_as.as_bytes()) % SLOTS, "{key}");
        }
        // As a server says.
        assert_eq!(slot("foo"), 12182);
    }

    fn node(host: &str, port: u16) -> Node {
        Node { host: host.to_owned(), port }
    }

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn range(first: i64, last: i64, host: Value, port: i64) -> Value {
        let master = Value::Array(vec![host, Value::Int(port), text("id"), Value::Array(vec![])]);
        Value::Array(vec![Value::Int(first), Value::Int(last), master])
    }

    #[test]
    fn slots_have_nodes() {
        let answer = Value::Array(vec![
            range(12183, 16383, text("c"), 3),
            range(0, 100, text("a"), 1),
            range(200, 12182, Value::Nil, 2),
        ]);
        let slots = Slots::parse(&answer, &node("asked", 7)).unwrap();
        assert_eq!(slots.node("foo"), Some(&node("asked", 2)));
        assert_eq!(slots.nodes().count(), 3);
        let key = |wanted: std::ops::Range<u16>| {
            (0..1_000_000)
                .map(|number| format!("k{number}"))
                .find(|key| wanted.contains(&slot(key)))
                .unwrap()
        };
        assert_eq!(slots.node(&key(0..101)), Some(&node("a", 1)));
        assert_eq!(slots.node(&key(101..200)), None, "nobody has it");
        assert_eq!(slots.node(&key(12183..16384)), Some(&node("c", 3)));
        assert_eq!(Slots::default().node("foo"), None);
    }

    #[test]
    fn nonsense_is_no_map() {
        for answer in [
            Value::Nil,
            text("OK"),
            Value::Array(vec![Value::Int(1)]),
            Value::Array(vec![Value::Array(vec![Value::Int(0), Value::Int(1)])]),
            Value::Array(vec![range(0, 16384, text("a"), 1)]),
            Value::Array(vec![range(-1, 1, text("a"), 1)]),
            Value::Array(vec![range(0, 1, text("a"), 65536)]),
        ] {
            assert_eq!(Slots::parse(&answer, &node("asked", 7)), None, "{answer:?}");
        }
    }
}

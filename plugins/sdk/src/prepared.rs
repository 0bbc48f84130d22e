//! How a policy travels from `configure` to the later calls, which run in other instances.
//!
//! The format is read only by the plugin that wrote it, so it names and versions nothing.

/// What can be written into `prepared` and read back.
///
/// For a struct, [`prepared!`](crate::prepared!) implements it.
pub trait Prepared: Sized {
    /// Appends the value to `to`.
    fn write(&self, to: &mut Vec<u8>);

    /// Takes the value from the start of `from`; `None` if it does not begin with one.
    fn read(from: &mut &[u8]) -> Option<Self>;
}

/// Implements [`Prepared`] for a struct: `prepared!(Policy { first, second });` with all its fields.
#[macro_export]
macro_rules! prepared {
    ($type:ident { $($field:tt),* $(,)? }) => {
        impl $crate::Prepared for $type {
            fn write(&self, _to: &mut ::std::vec::Vec<u8>) {
                $($crate::Prepared::write(&self.$field, _to);)*
            }

            fn read(_from: &mut &[u8]) -> ::std::option::Option<Self> {
                ::std::option::Option::Some(Self { $($field: $crate::Prepared::read(_from)?),* })
            }
        }
    };
}

/// Lengths first, seven bits an octet, so that short ones take one.
fn write_length(mut length: usize, to: &mut Vec<u8>) {
    while length > 0x7f {
        to.push(length.to_le_bytes()[0] | 0x80);
        length >>= 7;
    }
    to.push(length.to_le_bytes()[0]);
}

fn read_length(from: &mut &[u8]) -> Option<usize> {
    let mut length = 0;
    for shift in (0..usize::BITS).step_by(7) {
        let octet = *from.split_off_first()?;
        length |= usize::from(octet & 0x7f) << shift;
        if octet & 0x80 == 0 {
            return Some(length);
        }
    }
    None
}

impl Prepared for bool {
    fn write(&self, to: &mut Vec<u8>) {
        to.push(u8::from(*self));
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        from.split_off_first().map(|octet| *octet != 0)
    }
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl Prepared for $number {
            fn write(&self, to: &mut Vec<u8>) {
                to.extend_from_slice(&self.to_le_bytes());
            }

            fn read(from: &mut &[u8]) -> Option<Self> {
                let (octets, rest) = from.split_first_chunk()?;
                *from = rest;
                Some(Self::from_le_bytes(*octets))
            }
        }
    )*};
}

numbers!(u8, u16, u32, u64, i64, f64);

impl Prepared for String {
    fn write(&self, to: &mut Vec<u8>) {
        write_length(self.len(), to);
        to.extend_from_slice(self.as_bytes());
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        let length = read_length(from)?;
        let octets = from.split_off(..length)?;
        str::from_utf8(octets).ok().map(str::to_owned)
    }
}

impl<T: Prepared> Prepared for Vec<T> {
    fn write(&self, to: &mut Vec<u8>) {
        write_length(self.len(), to);
        for item in self {
            item.write(to);
        }
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        let length = read_length(from)?;
        // Every item takes an octet at least, so a wrong length cannot reserve much.
        let mut items = Self::with_capacity(length.min(from.len()));
        for _ in 0..length {
            items.push(T::read(from)?);
        }
        Some(items)
    }
}

impl<T: Prepared> Prepared for Option<T> {
    fn write(&self, to: &mut Vec<u8>) {
        self.is_some().write(to);
        if let Some(value) = self {
            value.write(to);
        }
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        if bool::read(from)? { T::read(from).map(Some) } else { Some(None) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Policy {
        names: Vec<String>,
        limit: Option<u32>,
        nested: Option<Vec<Option<String>>>,
        weight: f64,
        enabled: bool,
    }

    crate::prepared!(Policy { names, limit, nested, weight, enabled });

    fn policy() -> Policy {
        Policy {
            names: vec![String::new(), "ü".repeat(100), "a".repeat(20_000)],
            limit: Some(7),
            nested: Some(vec![None, Some("b".into())]),
            weight: 0.5,
            enabled: true,
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let mut octets = Vec::new();
        policy().write(&mut octets);
        let mut rest = octets.as_slice();
        assert_eq!(Policy::read(&mut rest), Some(policy()));
        assert!(rest.is_empty());
    }

    #[test]
    fn what_broke_off_is_not_read() {
        let mut octets = Vec::new();
        policy().write(&mut octets);
        for length in 0..octets.len() {
            assert_eq!(Policy::read(&mut &octets[..length]), None, "{length} octets");
        }
    }

    #[test]
    fn lengths_without_end_are_not_read() {
        assert_eq!(String::read(&mut [0xff; 32].as_slice()), None);
        assert_eq!(Vec::<u8>::read(&mut [0xff, 0xff, 0xff, 0x7f, 1].as_slice()), None);
    }
}

//! What the tests of several policies need.

/// Numbers that look random and are the same in every run, so that what a test has found it finds
/// again.
///
/// ```
/// use larder_policy::testing::Numbers;
///
/// let mut numbers = Numbers::from(7);
/// assert!(numbers.below(10) < 10);
/// assert_eq!(Numbers::from(7).mutated("a,b;c", 2), Numbers::from(7).mutated("a,b;c", 2));
/// ```
#[derive(Clone, Debug)]
pub struct Numbers(u64);

impl From<u64> for Numbers {
    /// Other numbers for another seed.
    fn from(seed: u64) -> Self {
        Self(seed)
    }
}

impl Numbers {
    /// A number below this one, and 0 if there is none.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        // The upper bits are the better ones.
        usize::try_from(self.0 >> 33).unwrap_or_default().checked_rem(bound).unwrap_or_default()
    }

    /// A text like this one, but with some of its octets replaced by ASCII.
    pub fn mutated(&mut self, text: &str, times: usize) -> String {
        let mut octets = text.as_bytes().to_vec();
        for _ in 0..times {
            let (at, octet) = (self.below(octets.len()), self.below(0x80));
            if let (Some(place), Ok(octet)) = (octets.get_mut(at), octet.try_into()) {
                *place = octet;
            }
        }
        String::from_utf8_lossy(&octets).into_owned()
    }
}

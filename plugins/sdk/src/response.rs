//! What policies and their tests do with responses.

use crate::Response;

impl Response {
    /// The value of the field that stands at `index` in `wants.response_fields`, if the response has
    /// it.
    pub fn field(&self, index: usize) -> Option<&str> {
        self.fields.get(index)?.as_deref()
    }

    /// The values that the query at `index` in `wants.response_values` selects, as JSON; an empty
    /// list if it selects none. `None` if they cannot be said: a policy that tags by them had better
    /// store nothing then, and one that invalidates by them name more.
    ///
    /// [`json_text`](crate::json_text) reads the strings among them.
    pub fn values(&self, index: usize) -> Option<&[String]> {
        self.values.as_ref()?.get(index).map(Vec::as_slice)
    }
}

/// A 200 of which nothing else is to be seen, to fill in by tests.
impl Default for Response {
    fn default() -> Self {
        Self { status: 200, fields: Vec::new(), values: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_cannot_be_said_are_not_an_empty_list() {
        let unsaid = Response::default();
        assert_eq!(unsaid.values(0), None);
        let values = Some(vec![vec![], vec!["1".to_owned()]]);
        let said = Response { fields: vec![Some("a".to_owned()), None], values, ..unsaid };
        assert_eq!(said.values(0), Some(&[][..]));
        assert_eq!(said.values(1), Some(&["1".to_owned()][..]));
        assert_eq!(said.values(2), None, "no such query");
        assert_eq!([0, 1, 2].map(|index| said.field(index)), [Some("a"), None, None]);
    }
}

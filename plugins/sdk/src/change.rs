//! What policies and their tests do with changes of documents.

use crate::Change;
use crate::Operation;

impl Change {
    /// The values that the query at `index` in `wants.document_values` selects in the document as the
    /// change left it. `None` if they cannot be said.
    pub fn after(&self, index: usize) -> Option<&[String]> {
        self.after.as_ref()?.get(index).map(Vec::as_slice)
    }

    /// The same of the document as it was before.
    pub fn before(&self, index: usize) -> Option<&[String]> {
        self.before.as_ref()?.get(index).map(Vec::as_slice)
    }
}

/// An update of which nothing is to be seen, to fill in by tests.
impl Default for Change {
    fn default() -> Self {
        Self {
            mongodb: String::new(),
            database: String::new(),
            collection: String::new(),
            operation: Operation::Update,
            id: String::new(),
            after: None,
            before: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_their_query() {
        let after = Some(vec![vec!["1".to_owned()]]);
        let change = Change { after, ..Change::default() };
        assert_eq!(change.after(0), Some(&["1".to_owned()][..]));
        assert_eq!((change.after(1), change.before(0)), (None, None));
    }
}

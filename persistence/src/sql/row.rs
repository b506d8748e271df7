//! One row on its way to a database: values in the order of its table's columns.

use super::tables::Table;

/// A value of a column.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// Nothing.
    Null,
    /// A number.
    Int(i64),
    /// A text.
    Text(String),
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<Option<i64>> for Value {
    fn from(number: Option<i64>) -> Self {
        number.map_or(Self::Null, Self::Int)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Option<String>> for Value {
    fn from(text: Option<String>) -> Self {
        text.map_or(Self::Null, Self::Text)
    }
}

/// A row to be written over the one with the same key, or a key whose row is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// All values.
    Put(Vec<Value>),
    /// The key alone.
    Delete(Vec<Value>),
}

/// The rows of a table by key, so that the last one counts.
pub type Rows = std::collections::BTreeMap<Vec<Value>, Row>;

/// Rows of several tables, in the order of [`super::tables::TABLES`].
#[derive(Clone, Debug, Default)]
pub struct Batch {
    tables: Vec<(&'static Table, Rows)>,
}

impl Batch {
    /// Writes a row over the one with its key.
    ///
    /// # Panics
    /// If there are not as many values as columns.
    pub fn put(&mut self, table: &'static Table, values: Vec<Value>) {
        assert_eq!(values.len(), table.columns.len(), "{} has other columns", table.name);
        let key = values[..table.key].to_vec();
        self.rows(table).insert(key, Row::Put(values));
    }

    /// Takes the row with this key away.
    pub fn delete(&mut self, table: &'static Table, key: Vec<Value>) {
        self.rows(table).insert(key.clone(), Row::Delete(key));
    }

    fn rows(&mut self, table: &'static Table) -> &mut Rows {
        let place = self.tables.iter().position(|(known, _)| known.name == table.name);
        let place = place.unwrap_or_else(|| {
            self.tables.push((table, Rows::new()));
            self.tables.len() - 1
        });
        &mut self.tables[place].1
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.tables.iter().map(|(_, rows)| rows.len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows, table by table.
    pub fn tables(&self) -> impl Iterator<Item = (&'static Table, &Rows)> {
        self.tables.iter().map(|(table, rows)| (*table, rows))
    }

    /// Adds the rows of `other`, which count where both have a key.
    pub fn append(&mut self, other: Self) {
        for (table, rows) in other.tables {
            self.rows(table).extend(rows);
        }
    }
}

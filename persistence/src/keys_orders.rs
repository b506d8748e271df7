//! Orders to destroy an organisation's key: files in the keys folder by which a command asks the running node, and is
//! answered. The node keeps what it must know of an order in the log; these files go when it is done.

use std::io;
use std::path::PathBuf;

use engine::OrganisationId;

use crate::disk::replace;
use crate::keys::{KeyError, Keys, at, frame, unframe};
use crate::uuid_text;

const ORDER_MAGIC: &[u8; 8] = b"RTORGOR1";
const REFUSED_MAGIC: &[u8; 8] = b"RTORGNO1";
/// Ends the name of an order.
const ORDER: &str = "order";
/// Ends the name of the answer that it can't be done.
const REFUSED: &str = "refused";

/// What became of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ordered {
    /// The node has not answered yet.
    Waits,
    /// There is no key any more, and there was one.
    Done,
    /// It can't be done now; why, and what to do.
    Refused(String),
    /// The organisation has no key, and never had one.
    NoKey,
}

/// An order that waits: whose key, and the reason, or why it can't be read.
pub type Order = (OrganisationId, Result<String, KeyError>);

impl Keys {
    /// Asks the running node to destroy an organisation's key, for a `reason` that goes into the log.
    ///
    /// # Errors
    /// The keys folder can't be written.
    pub fn order_destruction(&self, organisation: OrganisationId, reason: &str) -> Result<(), KeyError> {
        self.forget_answer(organisation)?;
        self.put(organisation, ORDER, ORDER_MAGIC, reason)
    }

    /// What became of the order to destroy an organisation's key.
    ///
    /// # Errors
    /// A file can't be read.
    pub fn ordered(&self, organisation: OrganisationId) -> Result<Ordered, KeyError> {
        if self.get(organisation, ORDER, ORDER_MAGIC)?.is_some() {
            return Ok(Ordered::Waits);
        }
        if let Some(why) = self.get(organisation, REFUSED, REFUSED_MAGIC)? {
            return Ok(Ordered::Refused(why));
        }
        let (has_key, destroyed) = self.look(organisation)?;
        Ok(match (has_key, destroyed) {
            (true, _) => Ordered::Refused("the order was taken back".to_owned()),
            (false, true) => Ordered::Done,
            (false, false) => Ordered::NoKey,
        })
    }

    /// The orders that wait.
    ///
    /// # Errors
    /// The keys folder can't be read.
    pub fn orders(&self) -> Result<Vec<Order>, KeyError> {
        let dir = self.orders_dir();
        let names = self.disk().list(&dir).map_err(at(&dir))?;
        let organisations = names.iter().filter_map(|name| {
            let digits = name.strip_suffix(ORDER)?.strip_suffix('.')?.replace('-', "");
            u128::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 32).map(OrganisationId)
        });
        let read = |organisation| match self.get(organisation, ORDER, ORDER_MAGIC) {
            Ok(Some(reason)) => Some((organisation, Ok(reason))),
            Ok(None) => None,
            Err(error) => Some((organisation, Err(error))),
        };
        Ok(organisations.filter_map(read).collect())
    }

    /// The order to destroy an organisation's key is carried out, or refused for `why`.
    ///
    /// # Errors
    /// The keys folder can't be written; the order stays.
    pub fn answer_order(&self, organisation: OrganisationId, why: Option<&str>) -> Result<(), KeyError> {
        if let Some(why) = why {
            self.put(organisation, REFUSED, REFUSED_MAGIC, why)?;
        }
        self.remove(organisation, ORDER)
    }

    /// Removes the answer to an earlier order.
    ///
    /// # Errors
    /// The keys folder can't be written.
    pub fn forget_answer(&self, organisation: OrganisationId) -> Result<(), KeyError> {
        self.remove(organisation, REFUSED)
    }

    fn order_path(&self, organisation: OrganisationId, kind: &str) -> PathBuf {
        self.orders_dir().join(format!("{}.{kind}", uuid_text(organisation.0)))
    }

    fn put(&self, organisation: OrganisationId, kind: &str, magic: &[u8; 8], text: &str) -> Result<(), KeyError> {
        let (dir, path) = (self.orders_dir(), self.order_path(organisation, kind));
        let name = format!("{}.{kind}", uuid_text(organisation.0));
        self.disk().create_dir(&dir).map_err(at(&dir))?;
        replace(self.disk(), &dir, &name, &frame(magic, text.as_bytes())).map_err(at(&path))
    }

    fn get(&self, organisation: OrganisationId, kind: &str, magic: &[u8; 8]) -> Result<Option<String>, KeyError> {
        let path = self.order_path(organisation, kind);
        let Some(bytes) = self.read(&path)? else { return Ok(None) };
        Ok(Some(String::from_utf8_lossy(unframe(&bytes, magic, &path)?).into_owned()))
    }

    fn remove(&self, organisation: OrganisationId, kind: &str) -> Result<(), KeyError> {
        let (dir, path) = (self.orders_dir(), self.order_path(organisation, kind));
        match self.disk().remove(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.and_then(|()| self.disk().sync_dir(&dir)).map_err(at(&path)),
        }
    }
}

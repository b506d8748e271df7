//! What two nodes tell each other before anything else, and why they may not speak.

use wincode::{SchemaRead, SchemaWrite};

use crate::{HistoryId, uuid_text};

/// Version of the node-to-node protocol.
pub const PROTOCOL: u16 = 1;

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct Hello {
    /// The protocol it speaks; stays first for ever.
    pub protocol: u16,
    /// The cluster.
    pub cluster: u128,
    /// The history its log holds; 0 while it holds nothing.
    pub history: u128,
    /// Its number.
    pub node: u16,
    /// Its name, as its certificate says.
    pub name: String,
    /// The name of its site.
    pub site: String,
    /// Whether it keeps the log and serves nobody.
    pub witness: bool,
    /// Shards of the log, the system shard included.
    pub shards: u16,
    /// Names this life of its disk: random, new with every data folder.
    pub disk: u64,
    /// The oldest and the newest schema of commands it reads.
    pub reads: (u8, u8),
    /// The program's version, for people.
    pub version: String,
    /// Settings that must be the same everywhere, as name and value, in order of names.
    pub settings: Vec<(String, String)>,
}

/// Why two nodes may not speak.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// Another protocol.
    #[error("it speaks protocol {theirs}, this node {PROTOCOL}: start programs that go together")]
    Protocol {
        /// What it speaks.
        theirs: u16,
    },
    /// Another cluster.
    #[error("it belongs to cluster {}, this node to {}", uuid_text(*theirs), uuid_text(*ours))]
    Cluster {
        /// Its cluster.
        theirs: u128,
        /// Our cluster.
        ours: u128,
    },
    /// Another history: one of the two was restored or promoted.
    #[error(
        "its log is of history {}, this node's of {}: one of them was restored or promoted and they can't be joined. Move the data directory of the one that is wrong away; it fetches all of the other",
        HistoryId(*theirs), HistoryId(*ours)
    )]
    History {
        /// Its history.
        theirs: u128,
        /// Our history.
        ours: u128,
    },
    /// It is not in our list of members under that name and number.
    #[error("it says it is node {node}, \"{name}\", and no member is: check --peers on both sides")]
    Unknown {
        /// The number.
        node: u16,
        /// The name.
        name: String,
    },
    /// The certificate is of another node.
    #[error("it says it is \"{name}\", and its certificate is of another node")]
    Certificate {
        /// The name.
        name: String,
    },
    /// The log is cut into another number of shards.
    #[error(
        "its log has {theirs} shards and this node's {ours}: --shards counts at the first start only, start the new one with the other's"
    )]
    Shards {
        /// Its tender shards.
        theirs: u16,
        /// Ours.
        ours: u16,
    },
    /// It can't read what we write.
    #[error("it reads commands of schema {} to {}, this node writes {ours}: bring the older program up to date", theirs.0, theirs.1)]
    Schema {
        /// What it reads.
        theirs: (u8, u8),
        /// What we write.
        ours: u8,
    },
    /// A setting differs.
    #[error("its setting `{name}` is {theirs}, this node's is {ours}: make them equal")]
    Setting {
        /// The setting.
        name: String,
        /// Its value.
        theirs: String,
        /// Our value.
        ours: String,
    },
}

impl Hello {
    /// Whether a node that says this may be spoken to by one that says `ours`.
    ///
    /// # Errors
    /// The first [`Mismatch`].
    pub fn check(&self, ours: &Self) -> Result<(), Mismatch> {
        if self.protocol != ours.protocol {
            return Err(Mismatch::Protocol { theirs: self.protocol });
        }
        if self.cluster != ours.cluster {
            return Err(Mismatch::Cluster { theirs: self.cluster, ours: ours.cluster });
        }
        if self.history != ours.history && self.history != 0 && ours.history != 0 {
            return Err(Mismatch::History { theirs: self.history, ours: ours.history });
        }
        if self.shards != ours.shards {
            let tender_shards = |hello: &Self| hello.shards.saturating_sub(1);
            return Err(Mismatch::Shards { theirs: tender_shards(self), ours: tender_shards(ours) });
        }
        if !(self.reads.0..=self.reads.1).contains(&crate::SCHEMA) {
            return Err(Mismatch::Schema { theirs: self.reads, ours: crate::SCHEMA });
        }
        let names = self.settings.iter().chain(&ours.settings).map(|(name, _)| name);
        for name in names {
            let (theirs, ours) = (self.setting(name), ours.setting(name));
            if theirs != ours {
                let text = |value: Option<&str>| value.unwrap_or("not known there").to_owned();
                return Err(Mismatch::Setting { name: name.clone(), theirs: text(theirs), ours: text(ours) });
            }
        }
        Ok(())
    }

    fn setting(&self, name: &str) -> Option<&str> {
        self.settings.iter().find(|(each, _)| each == name).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A node of cluster 7.
    pub(crate) fn hello(node: u16, name: &str) -> Hello {
        Hello {
            protocol: PROTOCOL,
            cluster: 7,
            history: 9,
            node,
            name: name.into(),
            site: "here".into(),
            witness: false,
            shards: 3,
            disk: 5,
            reads: (1, crate::SCHEMA),
            version: "0.1.0".into(),
            settings: vec![("durability".into(), "majority".into())],
        }
    }

    #[test]
    fn each_difference_is_named() {
        let ours = hello(1, "a");
        let theirs = hello(2, "b");
        assert_eq!(theirs.check(&ours), Ok(()));
        assert_eq!(
            Hello { history: 0, ..theirs.clone() }.check(&ours),
            Ok(()),
            "an empty node fits every history"
        );
        let text = |theirs: Hello| theirs.check(&ours).expect_err("they differ").to_string();
        let wrong = [
            (Hello { protocol: 2, ..theirs.clone() }, "protocol 2"),
            (Hello { cluster: 8, ..theirs.clone() }, "000000000008"),
            (Hello { history: 8, ..theirs.clone() }, "of history 00000000-0000-0000-0000-000000000008"),
            (Hello { shards: 5, ..theirs.clone() }, "4 shards and this node's 2"),
            (Hello { reads: (2, 9), ..theirs.clone() }, "schema 2 to 9"),
            (Hello { settings: Vec::new(), ..theirs.clone() }, "`durability` is not known there"),
            (
                Hello { settings: vec![("durability".into(), "both".into())], ..theirs.clone() },
                "is both, this node's is majority",
            ),
        ];
        for (hello, part) in wrong {
            let text = text(hello);
            assert!(text.contains(part), "{text}");
        }
    }
}

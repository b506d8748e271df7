//! Why a feed ends: the close codes of the contract with the reason that is sent along.
//! 40xx: do not come back. 41xx: back off. 42xx: come back now.

use axum::extract::ws::{CloseFrame, Message};

/// Why the server ends a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// 4000: a frame that cannot be answered: not text, not JSON, no envelope, too large.
    BadFrame(&'static str),
    /// 4001: the token is not valid.
    BadToken,
    /// 4003: the session was ended.
    Forbidden,
    /// 4004: the subprotocol was not offered.
    Version,
    /// 4008: too many requests that could not be understood.
    TooManyErrors,
    /// 4101: it went on sending over its rate.
    Rate,
    /// 4102: a write did not progress.
    Slow,
    /// 4103: two pings in a row were not answered.
    NoPong,
    /// 4104: the user has too many sockets.
    TooManySockets,
    /// 4200: the service is shutting down.
    Drain,
    /// 4201: the token has expired.
    TokenExpired,
    /// 4202: the socket has lived its day; the next one goes wherever it is best served.
    Moved,
}

impl Close {
    /// The close code on the wire.
    pub const fn code(self) -> u16 {
        match self {
            Self::BadFrame(_) => 4000,
            Self::BadToken => 4001,
            Self::Forbidden => 4003,
            Self::Version => 4004,
            Self::TooManyErrors => 4008,
            Self::Rate => 4101,
            Self::Slow => 4102,
            Self::NoPong => 4103,
            Self::TooManySockets => 4104,
            Self::Drain => 4200,
            Self::TokenExpired => 4201,
            Self::Moved => 4202,
        }
    }

    /// The reason on the wire, for people.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::BadFrame(why) => why,
            Self::BadToken => "the token is not valid",
            Self::Forbidden => "the session was ended",
            Self::Version => "offer the subprotocol auction.v1.json",
            Self::TooManyErrors => "too many bad requests",
            Self::Rate => "too many requests",
            Self::Slow => "too slow",
            Self::NoPong => "no answer to pings",
            Self::TooManySockets => "too many sockets of this user",
            Self::Drain => "shutting down",
            Self::TokenExpired => "the token has expired",
            Self::Moved => "come back on a new socket",
        }
    }

    /// The closing frame.
    pub fn message(self) -> Message {
        Message::Close(Some(CloseFrame { code: self.code(), reason: self.reason().into() }))
    }
}

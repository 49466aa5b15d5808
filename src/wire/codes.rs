//! The reasons that go over the wire as numbers: why a connection is refused, and why it is ended.

/// Why the server refuses a connection. Codes from a later version arrive as [`RejectCode::Other`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RejectCode {
    /// The first frame was no Hello of this protocol.
    NotHello,
    /// The protocol version is not spoken here.
    Version,
    /// The role is not served at this address.
    Role,
    /// No stream of that name.
    UnknownStream,
    /// As many connections as the server's limit allows.
    Full,
    /// The client's frame limit is below the least there is, or below the largest publication of the stream.
    FrameLimit,
    /// The server is stopping.
    ShuttingDown,
    /// A code that this version does not know.
    Other(u16),
}

impl RejectCode {
    /// The number on the wire.
    pub fn code(self) -> u16 {
        match self {
            RejectCode::NotHello => 1,
            RejectCode::Version => 2,
            RejectCode::Role => 3,
            RejectCode::UnknownStream => 4,
            RejectCode::Full => 5,
            RejectCode::FrameLimit => 6,
            RejectCode::ShuttingDown => 7,
            RejectCode::Other(code) => code,
        }
    }

    /// The reason that a number on the wire stands for.
    pub fn from_code(code: u16) -> Self {
        match code {
            1 => RejectCode::NotHello,
            2 => RejectCode::Version,
            3 => RejectCode::Role,
            4 => RejectCode::UnknownStream,
            5 => RejectCode::Full,
            6 => RejectCode::FrameLimit,
            7 => RejectCode::ShuttingDown,
            code => RejectCode::Other(code),
        }
    }
}

/// Why a peer ends a connection on purpose. Codes from a later version arrive as [`ByeCode::Other`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ByeCode {
    /// It is stopping.
    Stopped,
    /// The other side broke the protocol; the text says how.
    Protocol,
    /// The other side was too slow, and the policy is to put it out.
    TooSlow,
    /// A newer connection of the same session has taken over.
    Replaced,
    /// A limit of the sender was exceeded; the text says which.
    Limit,
    /// A code that this version does not know.
    Other(u16),
}

impl ByeCode {
    /// The number on the wire.
    pub fn code(self) -> u16 {
        match self {
            ByeCode::Stopped => 1,
            ByeCode::Protocol => 2,
            ByeCode::TooSlow => 3,
            ByeCode::Replaced => 4,
            ByeCode::Limit => 5,
            ByeCode::Other(code) => code,
        }
    }

    /// The reason that a number on the wire stands for.
    pub fn from_code(code: u16) -> Self {
        match code {
            1 => ByeCode::Stopped,
            2 => ByeCode::Protocol,
            3 => ByeCode::TooSlow,
            4 => ByeCode::Replaced,
            5 => ByeCode::Limit,
            code => ByeCode::Other(code),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_a_later_version_survive_the_way_through_this_one() {
        for code in 0..=u16::from(u8::MAX) {
            assert_eq!(RejectCode::from_code(code).code(), code);
            assert_eq!(ByeCode::from_code(code).code(), code);
        }
    }
}

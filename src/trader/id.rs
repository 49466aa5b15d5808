//! The ids that hold across gateways: put together from their parts, and taken apart again.
//!
//! | id | is | taken apart at |
//! |---|---|---|
//! | `vt_symbol` | `symbol.EXCHANGE` | the last dot: symbols may have dots |
//! | `vt_orderid`, `vt_tradeid`, `vt_quoteid`, `vt_accountid` | `gateway.id` | the first dot: ids may have dots, gateway names may not |
//! | `vt_positionid` | `gateway.symbol.EXCHANGE.DIRECTION` | the first dot and the last two |

use std::format;
use std::string::String;

use super::{Direction, Exchange, UnknownName};

/// Why a text is no id of the kind asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// A dot is missing.
    #[error("too few dots in {0:?}")]
    NoDot(String),
    /// The gateway's name, the symbol or the id proper is empty.
    #[error("an empty part in {0:?}")]
    EmptyPart(String),
    /// It names no exchange, or no direction, that there is.
    #[error(transparent)]
    Unknown(#[from] UnknownName),
}

/// `symbol.EXCHANGE`: a contract, whoever trades it.
pub fn vt_symbol(symbol: &str, exchange: Exchange) -> String {
    format!("{symbol}.{exchange}")
}

/// `gateway.id`: an order, a trade, a quote or an account, among all gateways.
pub fn vt_id(gateway_name: &str, id: &str) -> String {
    format!("{gateway_name}.{id}")
}

/// `gateway.symbol.EXCHANGE.DIRECTION`: a position.
///
/// The direction is its name (`LONG`), where vn.py has a text that depends on the language of the machine.
pub fn vt_positionid(gateway_name: &str, symbol: &str, exchange: Exchange, direction: Direction) -> String {
    format!("{gateway_name}.{symbol}.{exchange}.{direction}")
}

/// Symbol and exchange of a `vt_symbol`, split at the last dot.
///
/// # Errors
/// No dot, an empty symbol, or no exchange of that name.
///
/// ```
/// use pulsewire::trader::{id, Exchange};
/// assert_eq!(id::split_vt_symbol("BRK.B.NYSE"), Ok(("BRK.B", Exchange::Nyse)));
/// ```
pub fn split_vt_symbol(vt_symbol: &str) -> Result<(&str, Exchange), IdError> {
    let (symbol, exchange) = vt_symbol.rsplit_once('.').ok_or_else(|| IdError::NoDot(vt_symbol.into()))?;
    if symbol.is_empty() {
        return Err(IdError::EmptyPart(vt_symbol.into()));
    }
    Ok((symbol, exchange.parse()?))
}

/// Gateway name and id of a `vt_orderid`, `vt_tradeid`, `vt_quoteid` or `vt_accountid`, split at the first dot.
///
/// # Errors
/// No dot, or nothing on one side of it.
///
/// ```
/// use pulsewire::trader::id;
/// assert_eq!(id::split_vt_id("CTP.7_1.42"), Ok(("CTP", "7_1.42")));
/// ```
pub fn split_vt_id(vt_id: &str) -> Result<(&str, &str), IdError> {
    let (gateway_name, id) = vt_id.split_once('.').ok_or_else(|| IdError::NoDot(vt_id.into()))?;
    if gateway_name.is_empty() || id.is_empty() {
        return Err(IdError::EmptyPart(vt_id.into()));
    }
    Ok((gateway_name, id))
}

/// Gateway name, symbol, exchange and direction of a `vt_positionid`.
///
/// # Errors
/// Too few dots, an empty part, or no exchange or direction of that name.
pub fn split_vt_positionid(vt_positionid: &str) -> Result<(&str, &str, Exchange, Direction), IdError> {
    let (gateway_name, rest) = split_vt_id(vt_positionid)?;
    let (vt_symbol, direction) = rest.rsplit_once('.').ok_or_else(|| IdError::NoDot(vt_positionid.into()))?;
    let (symbol, exchange) = split_vt_symbol(vt_symbol)?;
    Ok((gateway_name, symbol, exchange, direction.parse()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    #[test]
    fn dots_inside_of_the_parts_stay_there() {
        assert_eq!(split_vt_symbol("rb2410.SHFE"), Ok(("rb2410", Exchange::Shfe)));
        assert_eq!(split_vt_symbol("a.b..EUX"), Ok(("a.b.", Exchange::Eurex)));
        assert_eq!(split_vt_id("RPC.1.2.3"), Ok(("RPC", "1.2.3")));
        assert_eq!(split_vt_id("RPC..1"), Ok(("RPC", ".1")));
        let position = split_vt_positionid("RPC.BRK.B.NYSE.LONG");
        assert_eq!(position, Ok(("RPC", "BRK.B", Exchange::Nyse, Direction::Long)));
    }

    #[test]
    fn what_is_no_id_is_refused() {
        assert_eq!(split_vt_symbol("rb2410"), Err(IdError::NoDot("rb2410".into())));
        assert_eq!(split_vt_symbol(".SHFE"), Err(IdError::EmptyPart(".SHFE".into())));
        assert!(matches!(split_vt_symbol("rb2410."), Err(IdError::Unknown(_))));
        assert!(matches!(split_vt_symbol("rb2410.shfe"), Err(IdError::Unknown(_))));
        assert_eq!(split_vt_id(""), Err(IdError::NoDot("".into())));
        assert_eq!(split_vt_id(".1"), Err(IdError::EmptyPart(".1".into())));
        assert_eq!(split_vt_id("CTP."), Err(IdError::EmptyPart("CTP.".into())));
        assert_eq!(split_vt_positionid("CTP.SHFE"), Err(IdError::NoDot("CTP.SHFE".into())));
        assert_eq!(split_vt_positionid("CTP.SHFE.LONG"), Err(IdError::NoDot("SHFE".into())));
        assert!(matches!(split_vt_positionid("CTP.rb2410.SHFE.Long"), Err(IdError::Unknown(_))));
    }

    proptest! {
        #[test]
        fn taking_apart_undoes_putting_together(
            gateway_name in "[^.]{1,8}", symbol in ".{1,12}", id in ".{1,12}",
            exchange in select(Exchange::ALL), direction in select(Direction::ALL),
        ) {
            let contract = vt_symbol(&symbol, exchange);
            prop_assert_eq!(split_vt_symbol(&contract), Ok((&*symbol, exchange)));
            let order = vt_id(&gateway_name, &id);
            prop_assert_eq!(split_vt_id(&order), Ok((&*gateway_name, &*id)));
            let position = vt_positionid(&gateway_name, &symbol, exchange, direction);
            let parts = (&*gateway_name, &*symbol, exchange, direction);
            prop_assert_eq!(split_vt_positionid(&position), Ok(parts));
        }

        #[test]
        fn any_text_is_taken_apart_or_refused(text in "[a-zA-Z.]{0,20}") {
            if let Ok((symbol, exchange)) = split_vt_symbol(&text) {
                prop_assert_eq!(vt_symbol(symbol, exchange), &*text);
            }
            if let Ok((gateway_name, id)) = split_vt_id(&text) {
                prop_assert_eq!(vt_id(gateway_name, id), &*text);
            }
        }
    }
}

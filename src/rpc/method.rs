//! Typed names: what a function takes and gives, and what a topic carries, checked by the compiler on both ends.

use core::marker::PhantomData;
use std::borrow::Cow;
use std::format;
use std::string::String;

/// A function's name with the types of its arguments and its result, to be shared by both ends.
///
/// ```
/// use pulsewire::Method;
/// const ADD: Method<(i64, i64), i64> = Method::new("add");
/// ```
pub struct Method<A, R> {
    name: &'static str,
    types: PhantomData<fn(A) -> R>,
}

impl<A, R> Method<A, R> {
    /// A function of this name.
    pub const fn new(name: &'static str) -> Self {
        Method { name, types: PhantomData }
    }

    /// Its name.
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

impl<A, R> Clone for Method<A, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A, R> Copy for Method<A, R> {}

/// What can name a function that takes `A` and gives `R`: a [`Method`] of these types, or any string.
pub trait MethodName<A: ?Sized, R> {
    /// The name.
    fn method_name(&self) -> &str;
}

impl<A: ?Sized, R> MethodName<A, R> for &str {
    fn method_name(&self) -> &str {
        self
    }
}

impl<A: ?Sized, R> MethodName<A, R> for String {
    fn method_name(&self) -> &str {
        self
    }
}

impl<A: ?Sized, R> MethodName<A, R> for &String {
    fn method_name(&self) -> &str {
        self
    }
}

impl<A, R> MethodName<A, R> for Method<A, R> {
    fn method_name(&self) -> &str {
        self.name
    }
}

/// A topic prefix with the type of what is published under it, to be shared by both ends.
///
/// ```
/// use pulsewire::Topic;
/// const PRICES: Topic<f64> = Topic::new("price.");
/// assert_eq!(PRICES.at("AAPL").as_str(), "price.AAPL");
/// ```
pub struct Topic<T> {
    prefix: &'static str,
    types: PhantomData<fn() -> T>,
}

impl<T> Topic<T> {
    /// Topics that begin with this prefix.
    pub const fn new(prefix: &'static str) -> Self {
        Topic { prefix, types: PhantomData }
    }

    /// The prefix.
    pub const fn prefix(&self) -> &'static str {
        self.prefix
    }

    /// One topic below the prefix, to publish under or to subscribe to.
    pub fn at(&self, rest: &str) -> TopicPath<T> {
        TopicPath { path: Cow::Owned(format!("{}{rest}", self.prefix)), types: PhantomData }
    }
}

impl<T> Clone for Topic<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Topic<T> {}

/// One topic below a [`Topic`].
pub struct TopicPath<T> {
    path: Cow<'static, str>,
    types: PhantomData<fn() -> T>,
}

impl<T> TopicPath<T> {
    /// The whole topic.
    pub fn as_str(&self) -> &str {
        &self.path
    }
}

/// What can be published under: a [`Topic`] or [`TopicPath`] of this type, or any string.
pub trait PublishTopic<T: ?Sized> {
    /// The topic.
    fn topic(&self) -> &str;
}

/// What can be subscribed to: a [`Topic`] or [`TopicPath`] of this type, or any string.
pub trait TopicPrefix<T> {
    /// The prefix.
    fn prefix(&self) -> &str;
}

macro_rules! any_string_names_a_topic {
    ($($string:ty),*) => {$(
        impl<T: ?Sized> PublishTopic<T> for $string {
            fn topic(&self) -> &str {
                self
            }
        }

        impl<T> TopicPrefix<T> for $string {
            fn prefix(&self) -> &str {
                self
            }
        }
    )*};
}

any_string_names_a_topic!(&str, String, &String);

impl<T> PublishTopic<T> for Topic<T> {
    fn topic(&self) -> &str {
        self.prefix
    }
}

impl<T> PublishTopic<T> for TopicPath<T> {
    fn topic(&self) -> &str {
        &self.path
    }
}

impl<T> TopicPrefix<T> for Topic<T> {
    fn prefix(&self) -> &str {
        self.prefix
    }
}

impl<T> TopicPrefix<T> for TopicPath<T> {
    fn prefix(&self) -> &str {
        &self.path
    }
}

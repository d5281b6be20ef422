//! The one form in which all messages are written down.
//!
//! ```text
//! messages! {
//!     /// What the message is.
//!     ProduceRequest versions [0-13] flexible [9] {
//!         transactional_id [3+] null [3+]: Option<KafkaString> = None;
//!         topic_data [0+]: Vec<TopicProduceData>;
//!     }
//!     /// What the part is.
//!     TopicProduceData {
//!         name [0-12]: KafkaString;
//!         topic_id [13+]: Uuid;
//!     }
//! }
//! ```
//! A field is `name [versions] null [versions] tag N : Type = default`; `null`, `tag` and the default
//! may be absent. Versions are `[3+]`, `[3-7]` or `[3]`. Tags stand in ascending order. From it come
//! the struct, its Kafka default, decoding, encoding, the smallest length, and JSON.

/// Whether a version is in a range of the table.
macro_rules! in_versions {
    ([0+], $version:expr) => {
        true
    };
    ([$from:literal +], $version:expr) => {
        $version >= $from
    };
    ([0 - $to:literal], $version:expr) => {
        $version <= $to
    };
    ([$from:literal - $to:literal], $version:expr) => {
        matches!($version, $from..=$to)
    };
    ([$only:literal], $version:expr) => {
        $version == $only
    };
}

/// The lower and upper end of a range of the table.
macro_rules! version_bounds {
    ([$from:literal - $to:literal]) => {
        ($from, $to)
    };
    ([$only:literal]) => {
        ($only, $only)
    };
}

/// The second argument, only where there is no tag.
macro_rules! untagged {
    ([] $then:block) => {
        $then
    };
    ([$tag:literal] $then:block) => {};
}

/// The second argument, only where there is a tag.
macro_rules! tagged {
    ([] $then:block) => {};
    ([$tag:literal] $then:block) => {
        $then
    };
}

/// The number of a tag.
macro_rules! tag_number {
    ([$tag:literal]) => {
        $tag
    };
}

/// The second argument, or 0 where there is a tag.
macro_rules! untagged_or_zero {
    ([] $then:block) => {
        $then
    };
    ([$tag:literal] $then:block) => {
        0
    };
}

/// Whether there is a tag.
#[cfg(any(test, feature = "json"))]
macro_rules! is_tagged {
    ([]) => {
        false
    };
    ([$tag:literal]) => {
        true
    };
}

/// A field's default: the table's, or the type's.
macro_rules! initial {
    ($ty:ty) => {
        <$ty as $crate::wire::codec::Wire>::initial()
    };
    ($ty:ty, $default:expr) => {
        $default
    };
}

macro_rules! messages {
    ($(
        $(#[$doc:meta])*
        $name:ident $(versions $range:tt flexible $flexible:tt)? {
            $(
                $(#[$field_doc:meta])*
                $field:ident $versions:tt $(null $null:tt)? $(tag $tag:literal)?
                    : $ty:ty $(= $default:expr)?;
            )*
        }
    )*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $(
                $(#[$field_doc])*
                #[doc = concat!(
                    "Versions `", stringify!($versions), "`"
                    $(, ", null in `", stringify!($null), "`")?
                    $(, ", tag ", stringify!($tag))?
                    $(, ", default `", stringify!($default), "`")?
                    , "."
                )]
                pub $field: $ty,
            )*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: initial!($ty $(, $default)?),)* }
            }
        }

        #[allow(unused_variables, unused_mut, clippy::cognitive_complexity)]
        impl $crate::wire::codec::Wire for $name {
            fn initial() -> Self {
                Self::default()
            }

            fn read(
                reader: &mut $crate::wire::reader::Reader,
                form: $crate::wire::codec::Form,
            ) -> Result<Self, $crate::wire::error::DecodeError> {
                let version = form.version;
                let mut out = Self::default();
                $(untagged!([$($tag)?] {
                    if in_versions!($versions, version) {
                        let form = form.nullable(false $(|| in_versions!($null, version))?);
                        out.$field = $crate::wire::codec::Wire::read(reader, form).map_err(
                            |error| error.within(concat!(stringify!($name), ".", stringify!($field))),
                        )?;
                    }
                });)*
                if form.flexible {
                    const TAGS: &str = concat!(stringify!($name), " tagged fields");
                    let mut tags = reader.tags().map_err(|error| error.within(TAGS))?;
                    while let Some(tag) = tags.next(reader).map_err(|error| error.within(TAGS))? {
                        $(tagged!([$($tag)?] {
                            if tag == tag_number!([$($tag)?]) && in_versions!($versions, version) {
                                let form =
                                    form.nullable(false $(|| in_versions!($null, version))?);
                                let name = concat!(stringify!($name), ".", stringify!($field));
                                out.$field = $crate::wire::codec::Wire::read(reader, form)
                                    .map_err(|error| error.within(name))?;
                                tags.leave(reader).map_err(|error| error.within(name))?;
                                continue;
                            }
                        });)*
                        tags.skip(reader);
                    }
                }
                Ok(out)
            }

            fn write<S: $crate::wire::writer::Sink>(
                &self,
                sink: &mut S,
                form: $crate::wire::codec::Form,
            ) {
                let version = form.version;
                $(untagged!([$($tag)?] {
                    if in_versions!($versions, version) {
                        let form = form.nullable(false $(|| in_versions!($null, version))?);
                        $crate::wire::codec::Wire::write(&self.$field, sink, form);
                    }
                });)*
                if form.flexible {
                    let mut count = 0_u32;
                    $(tagged!([$($tag)?] {
                        if in_versions!($versions, version)
                            && self.$field != initial!($ty $(, $default)?)
                        {
                            count += 1;
                        }
                    });)*
                    sink.put_unsigned_varint(count);
                    $(tagged!([$($tag)?] {
                        if in_versions!($versions, version)
                            && self.$field != initial!($ty $(, $default)?)
                        {
                            let form = form.nullable(false $(|| in_versions!($null, version))?);
                            let mut counter = $crate::wire::writer::Counter::default();
                            $crate::wire::codec::Wire::write(&self.$field, &mut counter, form);
                            sink.put_unsigned_varint(tag_number!([$($tag)?]));
                            sink.put_unsigned_varint(counter.total() as u32);
                            $crate::wire::codec::Wire::write(&self.$field, sink, form);
                        }
                    });)*
                }
            }

            fn least(form: $crate::wire::codec::Form) -> usize {
                let version = form.version;
                usize::from(form.flexible) $(+ untagged_or_zero!([$($tag)?] {
                    if in_versions!($versions, version) {
                        let form = form.nullable(false $(|| in_versions!($null, version))?);
                        <$ty as $crate::wire::codec::Wire>::least(form)
                    } else {
                        0
                    }
                }))*
            }

            #[cfg(any(test, feature = "json"))]
            fn to_json(&self, form: $crate::wire::codec::Form) -> $crate::wire::json::Json {
                let version = form.version;
                let mut out = $crate::wire::json::Fields::default();
                $(
                    if in_versions!($versions, version)
                        && (!is_tagged!([$($tag)?]) || self.$field != initial!($ty $(, $default)?))
                    {
                        out.insert(
                            stringify!($field),
                            $crate::wire::codec::Wire::to_json(&self.$field, form),
                        );
                    }
                )*
                out.into_json()
            }

            #[cfg(any(test, feature = "json"))]
            fn from_json(
                json: &$crate::wire::json::Json,
                form: $crate::wire::codec::Form,
            ) -> Result<Self, $crate::wire::json::JsonError> {
                let mut out = Self::default();
                $(
                    if let Some(value) = $crate::wire::json::field(json, stringify!($field)) {
                        out.$field = $crate::wire::codec::Wire::from_json(value, form).map_err(
                            |error| error.within(concat!(stringify!($name), ".", stringify!($field))),
                        )?;
                    }
                )*
                Ok(out)
            }

            #[cfg(test)]
            fn arbitrary(
                entropy: &mut $crate::wire::tests::entropy::Entropy,
                form: $crate::wire::codec::Form,
            ) -> Self {
                let version = form.version;
                let mut out = Self::default();
                $(
                    if in_versions!($versions, version) {
                        let form = form.nullable(false $(|| in_versions!($null, version))?);
                        out.$field = $crate::wire::codec::Wire::arbitrary(entropy, form);
                    }
                )*
                out
            }
        }

        impl $crate::wire::codec::Nullable for $name {
            fn read_nullable(
                reader: &mut $crate::wire::reader::Reader,
                form: $crate::wire::codec::Form,
            ) -> Result<Option<Self>, $crate::wire::error::DecodeError> {
                if reader.present()? {
                    $crate::wire::codec::Wire::read(reader, form.nullable(false)).map(Some)
                } else {
                    Ok(None)
                }
            }

            fn write_null<S: $crate::wire::writer::Sink>(
                sink: &mut S,
                _: $crate::wire::codec::Form,
            ) {
                sink.put(&[0xff]);
            }

            fn write_present<S: $crate::wire::writer::Sink>(
                &self,
                sink: &mut S,
                form: $crate::wire::codec::Form,
            ) {
                sink.put(&[1]);
                $crate::wire::codec::Wire::write(self, sink, form);
            }

            fn least_nullable(_: $crate::wire::codec::Form) -> usize {
                1
            }
        }

        $(
            impl $crate::wire::codec::Message for $name {
                const NAME: &'static str = stringify!($name);
                const MIN_VERSION: i16 = version_bounds!($range).0;
                const MAX_VERSION: i16 = version_bounds!($range).1;
                const FIRST_FLEXIBLE_VERSION: i16 = first_flexible!($flexible);
            }
        )?
    )*};
}

/// The first flexible version of a table.
macro_rules! first_flexible {
    ([never]) => {
        i16::MAX
    };
    ([$from:literal]) => {
        $from
    };
}

//! An outbox row: which columns hold what, and the bytes of one row.
//!
//! Rows arrive in Postgres' binary form, columns are found by name each time the server describes the table, so that
//! added, dropped and reordered columns do no harm. The payload is passed through untouched.

use bytes::Bytes;
use replication_protocol::pgoutput::{Column, Relation, Tuple};
use serde::Deserialize;
use uuid::Uuid;

use crate::headers::Arena;

/// The names of the outbox table's columns. What is not set is looked for under Tailrace's and Debezium's names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ColumnNames {
    /// The event id (`id`).
    pub id: Option<String>,
    /// The aggregate's type (`aggregate_type`, `aggregatetype`).
    pub aggregate_type: Option<String>,
    /// The aggregate's id (`aggregate_id`, `aggregateid`): the record's key.
    pub aggregate_id: Option<String>,
    /// The aggregate's version (`aggregate_version`); may be absent.
    pub aggregate_version: Option<String>,
    /// The event's type (`event_type`, `type`): what routes choose by.
    pub event_type: Option<String>,
    /// The payload (`payload`).
    pub payload: Option<String>,
    /// A JSON object of further headers (`headers`); may be absent.
    pub headers: Option<String>,
    /// The user who may see the event (`owner`); may be absent.
    pub owner: Option<String>,
}

/// What the relay reads from a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The event id.
    Id,
    /// The aggregate's type.
    AggregateType,
    /// The aggregate's id.
    AggregateId,
    /// The aggregate's version.
    AggregateVersion,
    /// The event's type.
    EventType,
    /// The payload.
    Payload,
    /// Further headers.
    Headers,
    /// The owner.
    Owner,
}

impl Field {
    const ALL: [Self; 8] = [
        Self::Id,
        Self::AggregateType,
        Self::AggregateId,
        Self::AggregateVersion,
        Self::EventType,
        Self::Payload,
        Self::Headers,
        Self::Owner,
    ];

    const fn is_required(self) -> bool {
        match self {
            Self::Id | Self::AggregateType | Self::AggregateId | Self::EventType | Self::Payload => true,
            Self::AggregateVersion | Self::Headers | Self::Owner => false,
        }
    }

    const fn usual_names(self) -> &'static [&'static str] {
        match self {
            Self::Id => &["id"],
            Self::AggregateType => &["aggregate_type", "aggregatetype"],
            Self::AggregateId => &["aggregate_id", "aggregateid"],
            Self::AggregateVersion => &["aggregate_version"],
            Self::EventType => &["event_type", "type"],
            Self::Payload => &["payload"],
            Self::Headers => &["headers"],
            Self::Owner => &["owner"],
        }
    }
}

impl ColumnNames {
    fn configured(&self, field: Field) -> Option<&str> {
        match field {
            Field::Id => self.id.as_deref(),
            Field::AggregateType => self.aggregate_type.as_deref(),
            Field::AggregateId => self.aggregate_id.as_deref(),
            Field::AggregateVersion => self.aggregate_version.as_deref(),
            Field::EventType => self.event_type.as_deref(),
            Field::Payload => self.payload.as_deref(),
            Field::Headers => self.headers.as_deref(),
            Field::Owner => self.owner.as_deref(),
        }
    }

    /// The place of a field's column among these names.
    pub fn find<'a>(&self, field: Field, columns: impl Iterator<Item = &'a str> + Clone) -> Option<usize> {
        let configured = self.configured(field);
        let usual = field.usual_names().iter().copied().filter(|_| configured.is_none());
        configured.into_iter().chain(usual).find_map(|name| columns.clone().position(|column| column == name))
    }

    /// Finds the columns in the table as the server describes it.
    ///
    /// # Errors
    /// If a required column, or one that is configured, is not there.
    pub fn resolve(&self, relation: &Relation) -> Result<ColumnPlan, MissingColumn> {
        let mut plan = ColumnPlan { columns: vec![None; relation.columns.len()] };
        for field in Field::ALL {
            let configured = self.configured(field);
            let columns = relation.columns.iter().map(|column| &*column.name);
            match self.find(field, columns) {
                Some(place) => {
                    let type_oid = relation.columns.get(place).map_or(0, |column| column.type_oid);
                    if let Some(slot) = plan.columns.get_mut(place) {
                        *slot = Some((field, Format::of(type_oid)));
                    }
                }
                None if field.is_required() || configured.is_some() => {
                    return Err(MissingColumn {
                        table: format!("{}.{}", relation.namespace, relation.name),
                        column: configured.map_or_else(|| field.usual_names().join(" or "), str::to_owned),
                        field,
                    });
                }
                None => {}
            }
        }
        Ok(plan)
    }
}

/// The outbox table lacks a column.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("table {table} has no column {column} for the {field:?} of an event: name it under [source.columns]")]
pub struct MissingColumn {
    table: String,
    column: String,
    field: Field,
}

/// Which column of a row is which field, and how its bytes are read.
#[derive(Clone, Debug)]
pub struct ColumnPlan {
    columns: Vec<Option<(Field, Format)>>,
}

/// The fields of one row. Text is UTF-8; nothing is interpreted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutboxRow {
    /// The event id.
    pub id: Bytes,
    /// The aggregate's type.
    pub aggregate_type: Bytes,
    /// The aggregate's id.
    pub aggregate_id: Bytes,
    /// The aggregate's version, in decimal.
    pub aggregate_version: Option<Bytes>,
    /// The event's type.
    pub event_type: Bytes,
    /// The payload, byte for byte; `None` where the column is null.
    pub payload: Option<Bytes>,
    /// Whether the payload's column is `json` or `jsonb`.
    pub payload_is_json: bool,
    /// A JSON object of further headers.
    pub headers: Option<Bytes>,
    /// The user who may see the event.
    pub owner: Option<Bytes>,
    /// What could not be read; such a row becomes a dead letter.
    pub malformed: Option<&'static str>,
}

impl ColumnPlan {
    /// Reads one row. A column that cannot be read is remembered in [`OutboxRow::malformed`]; the rest is kept.
    pub fn read(&self, tuple: &Tuple, arena: &mut Arena) -> OutboxRow {
        let mut row = OutboxRow::default();
        for (column, planned) in tuple.columns().zip(&self.columns) {
            if let Some((field, format)) = planned {
                row.take(*field, *format, column, arena);
            }
        }
        for (value, words) in [
            (&row.id, "the event id is null or empty"),
            (&row.aggregate_type, "the aggregate type is null or empty"),
            (&row.aggregate_id, "the aggregate id is null or empty"),
            (&row.event_type, "the event type is null or empty"),
        ] {
            if value.is_empty() {
                row.malformed = row.malformed.or(Some(words));
            }
        }
        row
    }
}

impl OutboxRow {
    fn take(&mut self, field: Field, format: Format, column: Column, arena: &mut Arena) {
        let value = match column {
            Column::Null | Column::Unchanged => return,
            Column::Text(bytes) => Some(bytes),
            Column::Binary(bytes) => format.to_text(bytes, arena),
        };
        let is_opaque = field == Field::Payload;
        let Some(value) = value.filter(|bytes| is_opaque || str::from_utf8(bytes).is_ok()) else {
            self.malformed =
                Some("a column is neither text, number, UUID nor JSON: cast it in the outbox table");
            return;
        };
        match field {
            Field::Id => self.id = value,
            Field::AggregateType => self.aggregate_type = value,
            Field::AggregateId => self.aggregate_id = value,
            Field::AggregateVersion => self.aggregate_version = Some(value),
            Field::EventType => self.event_type = value,
            Field::Payload => {
                self.payload = Some(value);
                self.payload_is_json = matches!(format, Format::Jsonb | Format::Json);
            }
            Field::Headers => self.headers = Some(value),
            Field::Owner => self.owner = Some(value),
        }
    }
}

/// How the binary form of a type becomes text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// The binary form is the text: `text`, `varchar`, `name`, enums, `bytea`.
    AsIs,
    /// As is, and known to be JSON.
    Json,
    /// A version byte, then JSON.
    Jsonb,
    /// Sixteen bytes.
    Uuid,
    /// A big-endian number of two, four or eight bytes.
    Integer,
}

impl Format {
    /// The oids are part of Postgres' catalog and do not change (`pg_type.dat`).
    const fn of(type_oid: u32) -> Self {
        match type_oid {
            114 => Self::Json,
            3802 => Self::Jsonb,
            2950 => Self::Uuid,
            20 | 21 | 23 => Self::Integer,
            _ => Self::AsIs,
        }
    }

    fn to_text(self, bytes: Bytes, arena: &mut Arena) -> Option<Bytes> {
        match self {
            Self::AsIs | Self::Json => Some(bytes),
            Self::Jsonb => bytes.starts_with(&[1]).then(|| bytes.slice(1..)),
            Self::Uuid => Some(arena.text(Uuid::from_slice(&bytes).ok()?)),
            Self::Integer => {
                let number = match *bytes {
                    [a, b] => i64::from(i16::from_be_bytes([a, b])),
                    [a, b, c, d] => i64::from(i32::from_be_bytes([a, b, c, d])),
                    [a, b, c, d, e, f, g, h] => i64::from_be_bytes([a, b, c, d, e, f, g, h]),
                    _ => return None,
                };
                Some(arena.text(number))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use replication_protocol::pgoutput::{Message, RelationColumn, ReplicaIdentity};

    use super::*;

    fn relation(columns: &[(&str, u32)]) -> Relation {
        let columns = columns
            .iter()
            .map(|(name, type_oid)| RelationColumn {
                key: false,
                name: (*name).to_owned(),
                type_oid: *type_oid,
                type_modifier: -1,
            })
            .collect();
        Relation {
            oid: 1,
            namespace: "public".into(),
            name: "outbox".into(),
            replica_identity: ReplicaIdentity::Default,
            columns,
        }
    }

    fn tuple(values: &[Option<&[u8]>]) -> Tuple {
        let mut frame = vec![b'I', 0, 0, 0, 1, b'N'];
        frame.extend(u16::try_from(values.len()).expect("few columns").to_be_bytes());
        for value in values {
            match value {
                None => frame.push(b'n'),
                Some(bytes) => {
                    frame.push(b'b');
                    frame.extend(u32::try_from(bytes.len()).expect("short").to_be_bytes());
                    frame.extend(*bytes);
                }
            }
        }
        let Ok(Message::Insert(insert)) = Message::parse(frame.into()) else { panic!("not an insert") };
        insert.new
    }

    #[test]
    fn our_own_table_is_read_in_any_column_order() {
        let plan = ColumnNames::default()
            .resolve(&relation(&[
                ("payload", 114),
                ("aggregate_version", 20),
                ("id", 2950),
                ("extra", 1184),
                ("event_type", 25),
                ("aggregate_id", 25),
                ("aggregate_type", 25),
            ]))
            .expect("every column is there");
        let row = plan.read(
            &tuple(&[
                Some(b"{\"a\": 1}"),
                Some(&7_i64.to_be_bytes()),
                Some(&[0x11; 16]),
                Some(&[0; 8]),
                Some(b"users.created.v1"),
                Some(b"42"),
                Some(b"users"),
            ]),
            &mut Arena::default(),
        );
        assert_eq!(row.id, "11111111-1111-1111-1111-111111111111");
        assert_eq!(row.aggregate_version.as_deref(), Some(&b"7"[..]));
        assert_eq!(row.payload.as_deref(), Some(&b"{\"a\": 1}"[..]));
        assert!(row.payload_is_json);
        assert_eq!((&*row.event_type, &*row.aggregate_id), (&b"users.created.v1"[..], &b"42"[..]));
        assert_eq!(row.malformed, None);
    }

    #[test]
    fn the_names_of_debeziums_outbox_router_work_as_they_are() {
        let plan = ColumnNames::default()
            .resolve(&relation(&[
                ("id", 2950),
                ("aggregatetype", 1043),
                ("aggregateid", 1043),
                ("type", 1043),
                ("payload", 3802),
            ]))
            .expect("every column is there");
        let row = plan.read(
            &tuple(&[Some(&[0x22; 16]), Some(b"order"), Some(b"9"), Some(b"OrderCreated"), Some(b"\x01{}")]),
            &mut Arena::default(),
        );
        assert_eq!((row.payload.as_deref(), row.malformed), (Some(&b"{}"[..]), None));
    }

    #[test]
    fn a_missing_column_is_named() {
        let error = ColumnNames::default()
            .resolve(&relation(&[
                ("id", 2950),
                ("aggregate_type", 25),
                ("aggregate_id", 25),
                ("payload", 114),
            ]))
            .expect_err("there is no event type");
        assert_eq!(
            error.to_string(),
            "table public.outbox has no column event_type or type for the EventType of an event: name it under \
             [source.columns]"
        );
        let names = ColumnNames { owner: Some("tenant".into()), ..ColumnNames::default() };
        let full = relation(&[
            ("id", 2950),
            ("aggregate_type", 25),
            ("aggregate_id", 25),
            ("event_type", 25),
            ("payload", 114),
        ]);
        assert!(names.resolve(&full).is_err(), "a configured column must be there");
    }

    #[test]
    fn a_row_that_cannot_be_read_is_malformed_and_keeps_the_rest() {
        let plan = ColumnNames::default()
            .resolve(&relation(&[
                ("id", 2950),
                ("aggregate_type", 25),
                ("aggregate_id", 25),
                ("event_type", 25),
                ("payload", 17),
            ]))
            .expect("every column is there");
        let no_key = plan.read(
            &tuple(&[Some(&[1; 16]), Some(b"users"), None, Some(b"t"), Some(&[0xff])]),
            &mut Arena::default(),
        );
        assert_eq!(no_key.malformed, Some("the aggregate id is null or empty"));
        assert_eq!(no_key.payload.as_deref(), Some(&[0xff][..]), "a payload need not be text");
        let short = plan.read(
            &tuple(&[Some(&[1; 3]), Some(b"users"), Some(b"1"), Some(b"t"), Some(b"{}")]),
            &mut Arena::default(),
        );
        assert!(short.malformed.is_some());
        assert_eq!(short.event_type, "t");
    }
}

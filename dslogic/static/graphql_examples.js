// Queries to begin with; docs/api.md describes the fields of Query.

export const EXAMPLES = [
  {
    title: "The newest segments",
    query: `query {
  segments(before: 9007199254740991, first: 5) {
    segments {
      channel
      t0
      stop
      stored
    }
    more
  }
}
`,
  },
  {
    title: "Segments of two facilities",
    query: `query($where: Where) {
  segments(where: $where, first: 10) {
    segments {
      name
      channel
      facility
      t0
      bytes
    }
    after
    more
  }
  facets(where: $where) {
    segments
    facets {
      name
      segments
      low
      high
    }
  }
}
`,
    variables: { where: { facility: ["LIGO", "Virgo"], channel: ["*STRAIN*"] } },
  },
  {
    title: "Coverage and gaps of each channel",
    query: `query {
  coverage(first: 20) {
    channel
    dt
    spans {
      start
      stop
    }
    gaps {
      start
      stop
    }
  }
}
`,
  },
  {
    title: "Batches",
    query: `query {
  batches(first: 10) {
    id
    state
    n_itm
    buff_size
    archived
  }
}
`,
  },
  {
    title: "Records and their steps",
    query: `query {
  records(first: 10) {
    records {
      id
      status
      conditions
      steps {
        name
        state
        reason
      }
    }
    more
  }
}
`,
  },
  {
    title: "Make a bundle",
    query: `mutation($where: Where) {
  requestBundle(where: $where, format: hdf5) {
    id
    state
    n
    bytes
  }
}
`,
    variables: { where: { facility: ["LIGO"] } },
  },
];

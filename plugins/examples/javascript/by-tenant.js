// A key by path and by the tenant that a request field names: `x-tenant`, or what the setting `field`
// says. Requests without a tenant go past the cache.

export const configure = {
  configure(settings) {
    let field = "x-tenant";
    for (const { name, value } of settings) {
      // What is thrown is shown to the operator.
      if (name !== "field") throw "there is one setting, `field`";
      if (value.tag !== "text") throw "`field` is no text; write the name of a request field";
      field = value.val;
    }
    const wants = {
      inputs: { path: true },
      fields: [field],
      cookies: [],
      claims: [],
      responseFields: [],
      responseValues: [],
      documentValues: [],
    };
    return { wants, prepared: new Uint8Array() };
  },
};

export const key = {
  key(_prepared, { path, fields: [tenant] }) {
    if (tenant == null) return { tag: "bypass", val: "no tenant" };
    const parts = [
      { name: "path", value: path },
      { name: "tenant", value: tenant },
    ];
    return { tag: "parts", val: parts };
  },
};

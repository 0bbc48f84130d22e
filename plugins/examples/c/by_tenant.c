// A key by path and by the tenant that a request field names: `x-tenant`, or what the setting `field`
// says. Requests without a tenant go past the cache.

#include <stdlib.h>
#include <string.h>

#include "key_policy.h"

static bool is(const key_policy_string_t *text, const char *other) {
  return text->len == strlen(other) && memcmp(text->ptr, other, text->len) == 0;
}

// Answers are freed by the generated code, so they never point into the program itself.
static bool refuse(key_policy_string_t *err, const char *why) {
  key_policy_string_dup(err, why);
  return false;
}

bool exports_larder_policy_configure_configure(
    exports_larder_policy_configure_list_setting_t *config,
    exports_larder_policy_configure_configured_t *ret, key_policy_string_t *err) {
  const key_policy_string_t *named = NULL;
  for (size_t i = 0; i < config->len; i++) {
    const larder_policy_types_setting_t *setting = &config->ptr[i];
    if (!is(&setting->name, "field")) {
      return refuse(err, "there is one setting, `field`");
    }
    if (setting->value.tag != LARDER_POLICY_TYPES_SETTING_VALUE_TEXT) {
      return refuse(err, "`field` is no text; write the name of a request field");
    }
    named = &setting->value.val.text;
  }

  // Whatever is not asked for stays empty.
  memset(ret, 0, sizeof *ret);
  ret->wants.inputs = LARDER_POLICY_TYPES_INPUTS_PATH;
  key_policy_string_t *field = malloc(sizeof *field);
  if (named) {
    key_policy_string_dup_n(field, (const char *)named->ptr, named->len);
  } else {
    key_policy_string_dup(field, "x-tenant");
  }
  ret->wants.fields.ptr = field;
  ret->wants.fields.len = 1;
  exports_larder_policy_configure_list_setting_free(config);
  return true;
}

static larder_policy_types_pair_t part(const char *name, const key_policy_string_t *value) {
  larder_policy_types_pair_t part;
  key_policy_string_dup(&part.name, name);
  key_policy_string_dup_n(&part.value, (const char *)value->ptr, value->len);
  return part;
}

bool exports_larder_policy_key_key(key_policy_list_u8_t *prepared,
                                   exports_larder_policy_key_request_t *request,
                                   exports_larder_policy_key_decision_t *ret,
                                   key_policy_string_t *err) {
  (void)prepared, (void)err;
  const key_policy_option_string_t *tenant = &request->fields.ptr[0];
  if (!tenant->is_some) {
    ret->tag = EXPORTS_LARDER_POLICY_KEY_DECISION_BYPASS;
    key_policy_string_dup(&ret->val.bypass, "no tenant");
    return true;
  }
  ret->tag = EXPORTS_LARDER_POLICY_KEY_DECISION_PARTS;
  ret->val.parts.ptr = malloc(2 * sizeof *ret->val.parts.ptr);
  ret->val.parts.ptr[0] = part("path", &request->path);
  ret->val.parts.ptr[1] = part("tenant", &tenant->val);
  ret->val.parts.len = 2;
  // The instance ends with the call, so the arguments need not be freed.
  return true;
}

-- The weight of "backend/server" in the unit of `set weight`. HAProxy before 2.4 has no such sample.
core.register_fetches("srv_uweight", function(_, path)
    local backend, server = path:match("([^/]+)/(.+)")
    return core.backends[backend].servers[server]:get_stats().weight
end)

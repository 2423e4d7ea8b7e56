package stateuri

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"flujo-port/internal/clierr"
)

// Parameters of addresses, by who reads them.
var (
	// sharedParameters are read by libpq, pgx and asyncpg.
	sharedParameters = strings.Fields(`
		database dbname host options passfile password port sslcert sslkey sslmode sslpassword sslrootcert user`)

	// asyncpgOnly are read by asyncpg and libpq, but not by pgx.
	asyncpgOnly = strings.Fields("ssl_max_protocol_version ssl_min_protocol_version sslcrl")

	// clientOnly are read by other clients and by pools, and say nothing that asyncpg
	// needs: libpq and pgx, SQLAlchemy, asyncpg's own arguments, Prisma, JDBC,
	// node-postgres, Rails, Django and pgxpool.
	clientOnly = strings.Fields(`
		channel_binding connect_timeout fallback_application_name gssdelegation gssencmode gsslib hostaddr
		keepalives keepalives_count keepalives_idle keepalives_interval krbspn krbsrvname load_balance_hosts
		max_protocol_version min_protocol_version oauth_client_id oauth_client_secret oauth_issuer oauth_scope
		require_auth requiressl scram_client_key scram_server_key service servicefile ssl sslcertmode
		sslcompression sslcrldir sslkeylogfile sslnegotiation sslsni target_session_attrs
		default_query_exec_mode description_cache_capacity statement_cache_capacity

		async_fallback command_timeout echo executemany_mode isolation_level max_overflow pool_pre_ping
		pool_recycle pool_size pool_timeout pool_use_lifo prepared_statement_cache_size
		prepared_statement_name_func
		direct_tls max_cacheable_statement_size max_cached_statement_lifetime max_inactive_connection_lifetime
		max_queries max_size min_size statement_cache_size timeout

		connection_limit pgbouncer schema socket_timeout sslaccept sslidentity supa

		adaptivefetch applicationname assumeminserverversion autosave binarytransfer binarytransferdisable
		binarytransferenable cancelsignaltimeout cleanupsavepoints connecttimeout currentschema
		defaultrowfetchsize gssresponsetimeout hostrecheckseconds jaasapplicationname jaaslogin
		loadbalancehosts logintimeout logserverrordetail preferquerymode preparethreshold
		preparedstatementcachequeries preparedstatementcachesizemib protocolversion quotereturningidentifiers
		readonly readonlymode receivebuffersize rewritebatchedinserts sendbuffersize sockettimeout sslfactory
		sslhostnameverifier stringtype targetservertype tcpkeepalive tcpnodelay unknownlength usespnego

		connectiontimeoutmillis idle_timeout idletimeoutmillis keepalive max query_timeout uselibpqcompat

		checkout_timeout encoding pool prepared_statements reaping_frequency reconnect statement_limit variables
		conn_health_checks conn_max_age disable_server_side_cursors ssl_require

		pool_health_check_period pool_max_conn_idle_time pool_max_conn_lifetime pool_max_conn_lifetime_jitter
		pool_max_conns pool_min_conns pool_min_idle_conns pool_ping_timeout`)

	// serverSettings are the settings of PostgreSQL 13 to 18 that a session may begin
	// with. Their names have no case.
	serverSettings = strings.Fields(`
		allow_in_place_tablespaces allow_system_table_mods application_name array_nulls backend_flush_after
		backslash_quote backtrace_functions bytea_output check_function_bodies client_connection_check_interval
		client_encoding client_min_messages commit_delay commit_siblings compute_query_id constraint_exclusion
		cpu_index_tuple_cost cpu_operator_cost cpu_tuple_cost createrole_self_grant cursor_tuple_fraction datestyle
		deadlock_timeout debug_discard_caches debug_logical_replication_streaming debug_parallel_query
		debug_pretty_print debug_print_parse debug_print_plan debug_print_rewritten default_statistics_target
		default_table_access_method default_tablespace default_text_search_config default_toast_compression
		default_transaction_deferrable default_transaction_isolation default_transaction_read_only
		dynamic_library_path effective_cache_size effective_io_concurrency enable_async_append enable_bitmapscan
		enable_distinct_reordering enable_gathermerge enable_group_by_reordering enable_hashagg enable_hashjoin
		enable_incremental_sort enable_indexonlyscan enable_indexscan enable_material enable_memoize
		enable_mergejoin enable_nestloop enable_parallel_append enable_parallel_hash enable_partition_pruning
		enable_partitionwise_aggregate enable_partitionwise_join enable_presorted_aggregate
		enable_self_join_elimination enable_seqscan enable_sort enable_tidscan escape_string_warning
		event_triggers exit_on_error extension_control_path extra_float_digits file_copy_method
		file_extend_method force_parallel_mode from_collapse_limit geqo geqo_effort geqo_generations
		geqo_pool_size geqo_seed geqo_selection_bias geqo_threshold gin_fuzzy_search_limit
		gin_pending_list_limit hash_mem_multiplier icu_validation_level idle_in_transaction_session_timeout
		idle_session_timeout ignore_checksum_failure ignore_system_indexes intervalstyle io_combine_limit jit
		jit_above_cost jit_debugging_support jit_dump_bitcode jit_expressions jit_inline_above_cost
		jit_optimize_above_cost jit_profiling_support jit_tuple_deforming join_collapse_limit lc_messages
		lc_monetary lc_numeric lc_time lo_compat_privileges local_preload_libraries lock_timeout
		log_connections log_disconnections log_duration log_error_verbosity log_executor_stats
		log_lock_failures log_lock_waits log_min_duration_sample log_min_duration_statement
		log_min_error_statement log_min_messages log_parameter_max_length log_parameter_max_length_on_error
		log_parser_stats log_planner_stats log_replication_commands log_statement log_statement_sample_rate
		log_statement_stats log_temp_files log_transaction_sample_rate logical_decoding_work_mem
		maintenance_io_concurrency maintenance_work_mem max_parallel_maintenance_workers max_parallel_workers
		max_parallel_workers_per_gather max_stack_depth md5_password_warnings min_parallel_index_scan_size
		min_parallel_table_scan_size operator_precedence_warning parallel_leader_participation
		parallel_setup_cost parallel_tuple_cost password_encryption plan_cache_mode post_auth_delay
		quote_all_identifiers random_page_cost recursive_worktable_factor restrict_nonsystem_relation_kind
		row_security scram_iterations search_path send_abort_for_crash seq_page_cost session_preload_libraries
		session_replication_role standard_conforming_strings statement_timeout stats_fetch_consistency
		synchronize_seqscans synchronous_commit tcp_keepalives_count tcp_keepalives_idle tcp_keepalives_interval
		tcp_user_timeout temp_buffers temp_file_limit temp_tablespaces timezone timezone_abbreviations
		trace_notify trace_sort track_activities track_cost_delay_timing track_counts track_functions
		track_io_timing track_wal_io_timing transaction_deferrable transaction_isolation transaction_read_only
		transaction_timeout transform_null_equals update_process_title vacuum_buffer_usage_limit
		vacuum_cleanup_index_scale_factor vacuum_cost_delay vacuum_cost_limit vacuum_cost_page_dirty
		vacuum_cost_page_hit vacuum_cost_page_miss vacuum_failsafe_age vacuum_freeze_min_age
		vacuum_freeze_table_age vacuum_max_eager_freeze_failure_rate vacuum_multixact_failsafe_age
		vacuum_multixact_freeze_min_age vacuum_multixact_freeze_table_age vacuum_truncate wal_compression
		wal_consistency_checking wal_init_zero wal_recycle wal_sender_timeout wal_skip_threshold work_mem
		xmlbinary xmloption zero_damaged_pages`)
)

// unusableSettings are serverSettings that would break Flujo: its driver reads and sends
// UTF-8, its statements are written with standard strings, an error must not end its
// session, and no session can begin with a setting of one transaction.
var unusableSettings = strings.Fields(`
	client_encoding exit_on_error standard_conforming_strings transaction_deferrable transaction_isolation
	transaction_read_only`)

// removeUnusable removes unusableSettings, from options as well, and returns their names.
func (s *settings) removeUnusable() []string {
	rest, removed := withoutSettings(s.values.Get("options"), unusableSettings...)
	if s.values.Set("options", rest); rest == "" {
		s.values.Del("options")
	}
	for name := range s.values {
		if lower := strings.ToLower(name); slices.Contains(unusableSettings, lower) {
			s.values.Del(name)
			removed = append(removed, lower)
		}
	}
	slices.Sort(removed)
	return slices.Compact(removed)
}

// sslModes are the values of sslmode that libpq, pgx and asyncpg share.
var sslModes = strings.Fields("disable allow prefer require verify-ca verify-full")

// IsClientParameter reports whether a parameter is for a client, and never a setting
// that the server knows.
func IsClientParameter(name string) bool {
	return slices.Contains(clientOnly, strings.ToLower(name)) || slices.Contains(asyncpgOnly, name)
}

// printableName matches an unknown name that is printed.
var printableName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_% -]{0,62}$`)

// isServerSetting reports whether a setting is PostgreSQL's own.
func isServerSetting(name string) bool { return slices.Contains(serverSettings, strings.ToLower(name)) }

// checkParameters returns an error for a parameter that is unknown or repeated, or whose
// value neither pgx nor asyncpg can act upon.
func (s *settings) checkParameters() error {
	seen := map[string]bool{}
	for i, name := range s.names {
		lower := strings.ToLower(name)
		if !slices.Contains(sharedParameters, name) && !slices.Contains(asyncpgOnly, name) &&
			!slices.Contains(clientOnly, lower) && !slices.Contains(serverSettings, lower) &&
			!strings.Contains(name, ".") {
			return unknownParameter(name, slices.ContainsFunc(s.names[:i+1], isSecretName))
		}
		key := lower
		if key == "dbname" {
			key = "database"
		}
		if seen[key] {
			return fmt.Errorf("%w: parameter %s is set more than once; remove all but one", ErrUnsupported, name)
		}
		seen[key] = true
	}
	return s.checkValues()
}

// unknownParameter returns the error for a parameter that is in no list. No session of
// PostgreSQL 13 to 18 can set it either, so no other place for it is advised. hidden
// reports whether the name may be the end of a password that was not percent-encoded.
func unknownParameter(name string, hidden bool) error {
	if hidden || !printableName.MatchString(name) {
		return fmt.Errorf("%w (its name is hidden, may be part of a password)", ErrParameter)
	}
	known := slices.Concat(sharedParameters, asyncpgOnly, clientOnly, serverSettings)
	if similar := clierr.Suggest(name, known); similar != "" {
		return fmt.Errorf("%w %s: did you mean %s?", ErrParameter, name, similar)
	}
	return fmt.Errorf("%w %s: remove it", ErrParameter, name)
}

// checkValues returns an error for a value that neither pgx nor asyncpg can act upon.
func (s *settings) checkValues() error {
	if mode := s.values.Get("sslmode"); mode != "" && !slices.Contains(sslModes, mode) {
		return fmt.Errorf("%w: sslmode must be one of %s (no-verify of other drivers is require)",
			ErrUnsupported, strings.Join(sslModes, ", "))
	}
	switch strings.ToLower(s.values.Get("ssl")) {
	case "", "false", "no", "off", "0": // the others are sslmode now
	default:
		return fmt.Errorf("%w: parameter ssl has an unknown value; use sslmode=require or sslmode=verify-full",
			ErrUnsupported)
	}
	if s.values.Get("gssencmode") == "require" {
		return fmt.Errorf("%w: gssencmode=require: neither this program nor asyncpg encrypts by GSSAPI; use sslmode",
			ErrUnsupported)
	}
	return nil
}

// setAside returns the names of parameters in s that this program does not act upon.
func (s *settings) setAside() []string {
	acted := strings.Fields(`channel_binding connect_timeout hostaddr krbspn krbsrvname max_protocol_version
		min_protocol_version require_auth requiressl service servicefile ssl sslcertmode sslnegotiation sslsni
		target_session_attrs`)
	var names []string
	for _, name := range s.names {
		if IsClientParameter(name) && s.values.Has(name) && !slices.Contains(acted, strings.ToLower(name)) &&
			!slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
